"""Arithmetic of the language model, from the tokens that entered each decoder layer.

A multiply-add counts as two floating point operations. Norms, rotations, the embedding and the head
are left out, as in every paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unibench.facts import RECURRENT, SLIDING, layer_kinds


def tflops(macs: float) -> float:
    """Teraflops of multiply-adds."""
    return 2 * macs / 1e12


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of one decoder layer.

    Attributes:
        hidden: width of the residual stream.
        width: heads x head_dim.
        kv_width: key-value heads x head_dim.
        intermediate: width of the gated feed-forward network.
        kv_bytes: bytes of one number in the cache.
        windows: of each layer that does not attend to everything, keys that a query sees; 0 is a
            layer that carries a state.
        state_macs: multiply-adds of a token in a layer that carries a state, its network left out.
        kv_shared: layers at the end that read keys and values of earlier ones.
    """

    hidden: int
    width: int
    kv_width: int
    intermediate: int
    kv_bytes: int
    windows: Mapping[int, int] = field(default_factory=dict)
    state_macs: int = 0
    kv_shared: int = 0

    def macs(self, tokens: int, keys: int | None = None) -> int:
        """Multiply-adds of a layer for ``tokens`` queries on ``keys`` keys (default: the same
        tokens).

        ``n d (2 w + 2 w_kv) + 2 n k w + 3 n d m``: grouped queries and a gated network, the
        attention square counted whole.
        """
        return self.attention_macs(tokens, keys) + 3 * tokens * self.hidden * self.intermediate

    def attention_macs(self, tokens: int, keys: int | None = None) -> int:
        """Of :meth:`macs` the attention module's: projections and the square."""
        keys = tokens if keys is None else keys
        return (
            # q and o are d x w each, k and v d x w_kv; q k^T and its product with v are n k w each
            tokens * self.hidden * 2 * (self.width + self.kv_width) + 2 * tokens * keys * self.width
        )

    def layer_macs(self, layer: int, tokens: int) -> int:
        """As :meth:`macs`, by what the layer looks back with."""
        window = self.windows.get(layer)
        if window is None:
            return self.macs(tokens)
        # a state is of one size, so that the cost of a token does not grow with the prompt
        if window == 0:
            return tokens * (self.state_macs + 3 * self.hidden * self.intermediate)
        return self.macs(tokens, min(tokens, window))

    def prefill_tflops(self, tokens: Sequence[int]) -> float:
        """Teraflops of a prefill whose layer i sees ``tokens[i]`` tokens, text included."""
        return tflops(sum(self.layer_macs(layer, count) for layer, count in enumerate(tokens)))

    def cache_mib(self, tokens: Sequence[int]) -> float:
        """MiB of keys and values of a prompt; states are left out, they are of one size."""
        own = tokens[: len(tokens) - self.kv_shared]
        held = (
            # a window's cache holds all but the query itself
            count if (window := self.windows.get(layer)) is None else min(count, max(0, window - 1))
            for layer, count in enumerate(own)
        )
        return sum(held) * 2 * self.kv_width * self.kv_bytes / 2**20


def published_macs(tokens: int, hidden: int, intermediate: int, matrices: int = 2) -> int:
    """Multiply-adds of a layer as papers count them: ``4 n d^2 + 2 n^2 d + matrices n d m``,
    ungrouped heads.

    Args:
        tokens: that enter the layer.
        hidden: width of the residual stream, d.
        intermediate: width of the feed-forward network, m.
        matrices: of the feed-forward network: 2 (FastV, DivPrune, STP) or 3 (PyramidDrop,
            SparseVLM, FitPrune).

    >>> round(32 * published_macs(576, 4096, 11008, 3) / 1e12, 3)
    3.817
    """
    return (
        4 * tokens * hidden**2 + 2 * tokens**2 * hidden + matrices * tokens * hidden * intermediate
    )


def decoder_shape(config: Any, kv_bytes: int) -> DecoderShape:
    """The sizes of a Hugging Face text configuration. Of a mixture of experts those count that a
    token goes through. Layers of Gemma 4 that are wider than the others count as they do.
    """
    heads = config.num_attention_heads
    # some configurations have the field and leave it at None
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    kinds = layer_kinds(config.to_dict()) or ()
    sizes = dict.fromkeys(RECURRENT, 0) | dict.fromkeys(
        SLIDING, getattr(config, "sliding_window", None) or 0
    )
    return DecoderShape(
        config.hidden_size,
        heads * head_dim,
        groups * head_dim,
        _intermediate(config),
        kv_bytes,
        {layer: sizes[kind] for layer, kind in enumerate(kinds) if kind in sizes},
        _state_macs(config),
        getattr(config, "num_kv_shared_layers", None) or 0,
    )


def _intermediate(config: Any) -> int:
    """Width of the feed-forward network that a token goes through."""
    of_expert = getattr(config, "moe_intermediate_size", None)
    chosen = getattr(config, "num_experts_per_tok", None)
    if not (of_expert and chosen and getattr(config, "num_experts", None)):
        return int(config.intermediate_size)
    return int(chosen * of_expert + (getattr(config, "shared_expert_intermediate_size", 0) or 0))


def _state_macs(config: Any) -> int:
    """Multiply-adds of a token in a gated delta layer: its projections, its convolution, and what
    is read from and written to the state; 0 without such layers.
    """
    key_heads = getattr(config, "linear_num_key_heads", None)
    if key_heads is None:
        return 0
    keys = key_heads * config.linear_key_head_dim
    values = config.linear_num_value_heads * config.linear_value_head_dim
    projections = config.hidden_size * (
        2 * keys + 3 * values + 2 * config.linear_num_value_heads
    )  # query, key, value, gate, output; rate and decay of each head
    convolution = config.linear_conv_kernel_dim * (2 * keys + values)
    # the state is read by key and by query, and written once
    return int(projections + convolution + 3 * config.linear_key_head_dim * values)
