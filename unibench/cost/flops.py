"""Arithmetic of the language model, from the tokens that entered each decoder layer.

A multiply-add counts as two floating point operations. Norms, rotations, the embedding and the head
are left out, as in every paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


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
    """

    hidden: int
    width: int
    kv_width: int
    intermediate: int
    kv_bytes: int

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
            tokens * self.hidden * 2 * (self.width + self.kv_width) + 2 * tokens * keys * self.width
        )

    def prefill_tflops(self, tokens: Sequence[int]) -> float:
        """Teraflops of a prefill whose layer i sees ``tokens[i]`` tokens, text included."""
        return tflops(sum(self.macs(count) for count in tokens))

    def cache_mib(self, tokens: Sequence[int]) -> float:
        """MiB of keys and values of a prompt."""
        return sum(tokens) * 2 * self.kv_width * self.kv_bytes / 2**20


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
    """The sizes of a Hugging Face text configuration."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    return DecoderShape(
        config.hidden_size, heads * head_dim, groups * head_dim, config.intermediate_size, kv_bytes
    )
