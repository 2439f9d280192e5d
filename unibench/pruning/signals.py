"""What the vision tower did, as a method reads it: one row per visual token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unibench.pruning.attention import QueryKey, attention_rows, received_attention
from unibench.pruning.family import Family, PoolingHead, VisionCall


class Vision(Protocol):
    """Signals of the vision tower, one row per visual token of the context, float32.

    A token made of several patches has the mean of its patches; a token without a patch (a newline
    row) has ``fill``.
    """

    def received(
        self,
        layer: int,
        fill: float = 0.0,
        *,
        total: bool = False,
        whole: bool = False,
        others: bool = False,
    ) -> Tensor:
        """Mean attention each token receives from all queries and heads, ``[N]``.

        Args:
            layer: of the tower.
            fill: value of tokens without a patch.
            total: the sum over queries instead, one on average, so that pictures or windows of
                different sizes compare.
            whole: attention over the whole picture, also where the tower attends in windows.
            others: from other patches alone: neither from itself nor from the CLS token.
        """
        ...

    def cls(
        self, layer: int, fill: float = 0.0, *, one_head: bool = False, patches_only: bool = False
    ) -> Tensor:
        """Attention of the CLS token, mean over heads, ``[N]``.

        Args:
            layer: of the tower.
            fill: value of tokens without a patch.
            one_head: join the heads into one wide head.
            patches_only: leave the keys of the prefix tokens out of the softmax.
        """
        ...

    def keys(self, layer: int) -> Tensor:
        """Keys after any rotation, ``[N, heads, head_dim]``."""
        ...

    def queries(self, layer: int) -> Tensor:
        """Queries after any rotation, ``[N, heads, head_dim]``."""
        ...

    def hidden(self, layer: int) -> Tensor:
        """Hidden states after a block, ``[N, C]``."""
        ...

    def cls_hidden(self, layer: int) -> Tensor:
        """Hidden state of the CLS token of each token's tile, after a block, ``[N, C]``."""
        ...

    def projector_input(self) -> Tensor:
        """What enters the first layer of the family's projector, ``[N, C]``."""
        ...

    def tiles_across(self, rows: Tensor, tiles: int) -> int:
        """Tiles in a row of a picture whose tokens are ``rows`` of the context, where the family
        finds out; 0 where it does not.
        """
        ...

    @property
    def merged(self) -> Tensor | None:
        """``[N]`` True on the tokens that encoder stages left, None where there were none; the
        others are zero.
        """
        ...

    @property
    def owners(self) -> Tensor | None:
        """``[N]`` the token at whose place the row stands that encoder stages made of each; -1 is
        none. None where nothing was merged.
        """
        ...


@dataclass(frozen=True)
class Pooled:
    """Pictures as their tower's pooling head sees them.

    Attributes:
        tiles: ``[tiles, P]`` each tile or frame as a whole.
        tile: ``[N]`` the tile that each token lies in.
        attention: ``[N]`` of the head on each token, mean over heads; 0 on tokens without a patch.
    """

    tiles: Tensor
    tile: Tensor
    attention: Tensor


class RecordedVision:
    """:class:`Vision` over recorded calls.

    Args:
        family: packs patch values into tokens.
        calls: image call, then video call, as far as there were any.
        rows: ``[N]`` rows of the packed features that belong to this context.
    """

    def __init__(self, family: Family, calls: list[VisionCall], rows: Tensor) -> None:
        self._family, self._calls, self._rows = family, calls, rows

    def received(
        self,
        layer: int,
        fill: float = 0.0,
        *,
        total: bool = False,
        whole: bool = False,
        others: bool = False,
    ) -> Tensor:
        without = self._family.prefix_tokens if others else None

        def column(qk: QueryKey) -> Tensor:
            received = received_attention(qk, others=without)
            return received * (qk.key.shape[2] if total else 1)

        def one(call: VisionCall) -> Tensor:
            recorded = self._attention(call, layer)
            pictures = self._family.whole(recorded, call) if whole else recorded
            return self._joined(call, [column(qk) for qk in pictures], layer)[..., None]

        return self._packed(one, fill)[..., 0]

    def cls(
        self, layer: int, fill: float = 0.0, *, one_head: bool = False, patches_only: bool = False
    ) -> Tensor:
        if not self._family.prefix_tokens:
            raise RuntimeError(
                f"the vision tower of {self._family.model_types[0]} has no CLS token"
            )

        skipped = self._family.prefix_tokens if patches_only else 0

        def row(qk: QueryKey) -> Tensor:
            query, key, scaling = qk.query[:, :, :1], qk.key[:, :, skipped:], qk.scaling
            if one_head:
                query, key = (part.transpose(1, 2).flatten(2)[:, None] for part in (query, key))
                scaling = query.shape[-1] ** -0.5
            return torch.nn.functional.pad(
                attention_rows(query, key, scaling).mean((1, 2)), (skipped, 0)
            )

        return self._scores(layer, row, fill)

    def keys(self, layer: int) -> Tensor:
        return self._by_head(layer, lambda qk: qk.key)

    def queries(self, layer: int) -> Tensor:
        return self._by_head(layer, lambda qk: qk.query)

    def _by_head(self, layer: int, part: Callable[[QueryKey], Tensor]) -> Tensor:
        """Queries or keys ``[batch, heads, tokens, head_dim]`` as ``[N, heads, head_dim]``."""
        heads = 0

        def one(call: VisionCall) -> Tensor:
            nonlocal heads
            recorded = [part(qk) for qk in self._attention(call, layer)]
            heads = recorded[0].shape[1]
            chunks = [chunk.float().transpose(1, 2).flatten(2) for chunk in recorded]
            return self._joined(call, chunks, layer)

        tokens = self._packed(one)
        return tokens.reshape(len(tokens), heads, -1)

    @property
    def merged(self) -> Tensor | None:
        found = [
            torch.zeros(call.tokens, dtype=torch.bool) if call.merged is None else call.merged
            for call in self._calls
        ]
        if all(call.merged is None for call in self._calls):
            return None
        return torch.cat([mask.to(self._rows.device) for mask in found])[self._rows]

    @property
    def owners(self) -> Tensor | None:
        if all(call.owners is None for call in self._calls):
            return None
        found, start = list[Tensor](), 0
        for call in self._calls:
            own = torch.arange(call.tokens) if call.owners is None else call.owners
            found.append(torch.where(own < 0, own, own + start).to(self._rows.device))
            start += call.tokens
        whole = torch.cat(found)
        # as indices into the tokens of the context
        number = torch.full_like(whole, -1)
        number[self._rows] = torch.arange(len(self._rows), device=whole.device)
        own = whole[self._rows]
        return number[own.clamp_min(0)].masked_fill(own < 0, -1)

    def hidden(self, layer: int) -> Tensor:
        def one(call: VisionCall) -> Tensor:
            return self._family.strip(call.hidden[layer % len(self._family.vit_blocks)])

        return self._packed(one).float()

    def cls_hidden(self, layer: int) -> Tensor:
        def one(call: VisionCall) -> Tensor:
            states = call.hidden[layer % len(self._family.vit_blocks)]
            return states[:, :1].expand_as(self._family.strip(states)).contiguous()

        return self._packed(one).float()

    def pooled(self, head: PoolingHead, layer: int) -> Pooled:
        """The tiles of the context through a pooling head, from the states after a block."""
        rows: list[Tensor] = []
        attention: dict[int, Tensor] = {}
        number: dict[int, Tensor] = {}
        for call in self._calls:
            states = call.hidden[layer % len(self._family.vit_blocks)]
            whole, looks = head(self._family.strip(states))
            first = sum(map(len, rows))
            tiles = first + torch.arange(len(whole), device=looks.device)
            rows.append(whole)
            attention[id(call)] = looks[..., None]
            number[id(call)] = tiles[:, None, None].expand(*looks.shape, 1).to(looks)
        # packing averages the patches of a token, all of one tile
        tile = self._packed(lambda call: number[id(call)])[:, 0].round().long()
        looked = self._packed(lambda call: attention[id(call)])[:, 0]
        return Pooled(torch.cat(rows), tile, looked)

    def tiles_across(self, rows: Tensor, tiles: int) -> int:
        first = int(self._rows[rows[0]]) if len(rows) else 0
        for call in self._calls:
            if first < call.tokens:
                return self._family.tiles_across(call, first, tiles)
            first -= call.tokens
        return 0

    def projector_input(self) -> Tensor:
        packed = []
        for call in self._calls:
            if not call.joined:
                raise RuntimeError(f"{type(self._family).__name__}.projector did not run")
            packed.append(self._family.pack_joined(torch.cat(call.joined), call, 0.0))
        joined = torch.cat(packed)
        return joined[self._rows.to(joined.device)].float()

    def _joined(self, call: VisionCall, chunks: list[Tensor], layer: int) -> Tensor:
        """Per-chunk values of a layer for :meth:`Family.pack`; where tokens were merged, at their
        places.
        """
        block = layer % len(self._family.vit_blocks)
        return self._family.join(call.spread(chunks, block, self._family.prefix_tokens))

    def _attention(self, call: VisionCall, layer: int) -> list[QueryKey]:
        return call.attention[layer % len(self._family.vit_blocks)]

    def _scores(self, layer: int, reduce: Callable[[QueryKey], Tensor], fill: float) -> Tensor:
        def one(call: VisionCall) -> Tensor:
            return self._joined(call, [reduce(qk) for qk in self._attention(call, layer)], layer)[
                ..., None
            ]

        return self._packed(one, fill)[..., 0]

    def _packed(self, per_call: Callable[[VisionCall], Tensor], fill: float = 0.0) -> Tensor:
        values = []
        for call in self._calls:
            packed = self._family.pack(per_call(call), call, fill)
            if len(packed) != call.tokens:
                raise RuntimeError(
                    f"{type(self._family).__name__}.pack made {len(packed)} tokens of a call that"
                    f" gave {call.tokens}"
                )
            values.append(packed)
        joined = torch.cat(values)
        return joined[self._rows.to(joined.device)]
