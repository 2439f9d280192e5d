"""What a method sees: one sample, unbatched and free of padding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from unibench.pruning.attention import QueryKey, attention_rows, received_attention
from unibench.pruning.family import Family, Shape, VisionCall


class Vision(Protocol):
    """Signals of the vision tower, one row per visual token of the context."""

    def received(self, layer: int, fill: float = 0.0) -> Tensor:
        """Mean attention each token receives from all queries and heads, ``[N]``."""

    def cls(self, layer: int, fill: float = 0.0) -> Tensor:
        """Attention of the CLS token, mean over heads, ``[N]``."""

    def keys(self, layer: int) -> Tensor:
        """Keys of all heads side by side, ``[N, C]``."""

    def hidden(self, layer: int) -> Tensor:
        """Hidden states after a block, ``[N, C]``."""


@dataclass(frozen=True)
class Item:
    """One image or video of a sample.

    Attributes:
        start, stop: its tokens, as a range of the sample's ORIGINAL visual tokens.
        shape: the token grid (frames or tiles, height, width), or None where it is irregular.
    """

    start: int
    stop: int
    shape: Shape | None

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class StageContext:
    """One sample at one stage.

    Attributes:
        layer: the decoder layer whose input is cut.
        keep: number of tokens to keep here.
        total: number of visual tokens the sample had before any cut.
        hidden: ``[L, D]`` hidden states entering the layer, in the model's dtype.
        visual: ``[N]`` rows of ``hidden`` that are visual tokens of this context.
        origin: ``[L]`` index of each row in the unpruned sequence.
        vision_rows: ``[N]`` which of the sample's original visual tokens each one is.
        items: the images and videos, by original visual tokens.
        input_ids: ``[T]`` the unpruned prompt.
        vision: signals of the vision tower, if the method declared them.
        seed: of the run; :meth:`generator` derives from it.
        sample: name of the sample.
    """

    layer: int
    keep: int
    total: int
    hidden: Tensor
    visual: Tensor
    origin: Tensor
    vision_rows: Tensor
    items: tuple[Item, ...] = ()
    input_ids: Tensor | None = None
    vision: Vision | None = None
    seed: int = 0
    sample: str = ""
    query_key: Callable[[int], QueryKey] | None = field(default=None, repr=False)

    @property
    def visual_hidden(self) -> Tensor:
        """Hidden states of the visual tokens, ``[N, D]``, float32 whatever the model's dtype."""
        return self.hidden[self.visual].float()

    @property
    def instruction(self) -> Tensor:
        """Rows of the text after the last visual token of the sample."""
        last = int(self.visual[-1]) if len(self.visual) else -1
        return torch.arange(last + 1, len(self.hidden), device=self.hidden.device)

    def attention(self, layer: int, queries: Tensor | None = None) -> Tensor:
        """Attention of decoder layer ``layer`` on the visual tokens, ``[heads, queries, N]``, float32.

        Args:
            layer: a declared layer after the last cut.
            queries: rows of ``hidden``; default the last one.
        """
        qk = self._recorded(layer)
        rows = torch.tensor([len(self.hidden) - 1]) if queries is None else queries
        rows = rows.to(qk.query.device)
        return attention_rows(qk.query[:, rows], qk.key, qk.scaling, rows)[:, :, self.visual.to(qk.key.device)]

    def keys(self, layer: int) -> Tensor:
        """Post-RoPE keys of the visual tokens at decoder layer ``layer``, ``[kv_heads, N, head_dim]``, float32."""
        return self._recorded(layer).key[:, self.visual].float()

    def generator(self) -> torch.Generator:
        """A CPU generator seeded by (seed, sample, layer): the same draw in any order, batch or shard."""
        digest = hashlib.blake2b(f"{self.seed}/{self.sample}/{self.layer}".encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def _recorded(self, layer: int) -> QueryKey:
        if self.query_key is None:
            raise RuntimeError(f"attention of decoder layer {layer} was not declared in needs")
        return self.query_key(layer)


class RecordedVision:
    """:class:`Vision` over recorded calls.

    Args:
        family: packs patch values into tokens.
        calls: image call, then video call, as far as there were any.
        rows: ``[N]`` rows of the packed features that belong to this context.
    """

    def __init__(self, family: Family, calls: list[VisionCall], rows: Tensor) -> None:
        self._family, self._calls, self._rows = family, calls, rows

    def received(self, layer: int, fill: float = 0.0) -> Tensor:
        return self._scores(layer, received_attention, fill)

    def cls(self, layer: int, fill: float = 0.0) -> Tensor:
        if not self._family.prefix_tokens:
            raise RuntimeError(f"the vision tower of {self._family.model_types[0]} has no CLS token")
        return self._scores(layer, lambda qk: attention_rows(qk.query[:, :, :1], qk.key, qk.scaling).mean((1, 2)), fill)

    def keys(self, layer: int) -> Tensor:
        def one(call: VisionCall) -> Tensor:
            return self._family.join([qk.key.transpose(1, 2).flatten(2) for qk in self._attention(call, layer)])

        return self._packed(one).float()

    def hidden(self, layer: int) -> Tensor:
        def one(call: VisionCall) -> Tensor:
            return self._family.strip(call.hidden[layer % len(self._family.vit_blocks)])

        return self._packed(one).float()

    def _attention(self, call: VisionCall, layer: int) -> list[QueryKey]:
        return call.attention[layer % len(self._family.vit_blocks)]

    def _scores(self, layer: int, reduce: Callable[[QueryKey], Tensor], fill: float) -> Tensor:
        def one(call: VisionCall) -> Tensor:
            return self._family.join([reduce(qk) for qk in self._attention(call, layer)])[..., None]

        return self._packed(one, fill)[..., 0]

    def _packed(self, per_call: Callable[[VisionCall], Tensor], fill: float = 0.0) -> Tensor:
        values = []
        for call in self._calls:
            packed = self._family.pack(per_call(call), call, fill)
            if len(packed) != call.tokens:
                raise RuntimeError(
                    f"{type(self._family).__name__}.pack made {len(packed)} tokens of a call that gave {call.tokens}"
                )
            values.append(packed)
        joined = torch.cat(values)
        return joined[self._rows.to(joined.device)]
