"""Contexts at real sizes without a model: drawn features that resemble each other as patches do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unibench import StageContext
from unibench.pruning import Item
from unibench.pruning.attention import QueryKey
from unibench.pruning.layout import Part

WIDTH, CHANNELS, HEADS, KV_HEADS, HEAD_DIM, TEXT = 3584, 1280, 28, 4, 128, 64  # Qwen2.5-VL-7B
GRIDS = {576: (24, 24), 2691: (39, 69), 11000: (88, 125)}
RATIO = 8 / 9  # removed


def features(count: int, kind: str, seed: int = 0) -> Tensor:
    """``[count, WIDTH]``: noise, or patches that mix what neighbouring ones show."""
    g = torch.Generator().manual_seed(seed)
    if kind == "noise":
        return torch.randn(count, WIDTH, generator=g)
    parts = torch.randn(count // 12 + 1, WIDTH, generator=g)
    mix = 0.25 * torch.randn(count, len(parts), generator=g)
    mix[torch.arange(count), torch.arange(count) * len(parts) // count] += 1
    return 0.3 * (mix @ parts + torch.randn(count, WIDTH, generator=g)) + torch.randn(
        WIDTH, generator=g
    )


class DrawnVision:
    """Signals of a vision tower, drawn."""

    merged = None

    def __init__(self, hidden: Tensor) -> None:
        g = torch.Generator().manual_seed(1)
        self._scores = torch.rand(len(hidden), generator=g)
        self._keys = torch.randn(len(hidden), 16, CHANNELS // 16, generator=g)
        self._hidden = hidden

    def received(self, layer: int, fill: float = 0.0, **how: bool) -> Tensor:
        return self._scores

    def cls(self, layer: int, fill: float = 0.0, **how: bool) -> Tensor:
        return self._scores

    def keys(self, layer: int) -> Tensor:
        return self._keys

    def hidden(self, layer: int) -> Tensor:
        return self._hidden

    def cls_hidden(self, layer: int) -> Tensor:
        return self._hidden[:1].expand_as(self._hidden)

    @property
    def patchless(self) -> Tensor:
        return torch.zeros(len(self._hidden), dtype=torch.bool)


class DrawnFamily:
    """A family with a CLS token and an identity for a projector."""

    model_types = ("drawn",)
    prefix_tokens, saliency_layer, object_layer, feature_layer = 1, -2, 8, -2
    local_layer, deepstack, provides = 5, 0, frozenset[str]()
    clip, processor = None, None

    class text_model:  # noqa: N801
        """As far as methods ask."""

        norm = torch.nn.Identity()

    def __init__(self, qk: QueryKey | None = None) -> None:
        self._qk = qk

    def project(self, features: Tensor) -> Tensor:
        return features

    def unrotated(self, layer: int, hidden: Tensor) -> QueryKey:
        """Drawn ones: what a layer projects is no part of a selection."""
        assert self._qk is not None
        return QueryKey(self._qk.query[None], self._qk.key[None], self._qk.scaling)


@dataclass(frozen=True)
class Case:
    """A picture of so many tokens.

    Attributes:
        ctx: before the language model.
        features: ``[N, WIDTH]``.
        keep: the budget.
    """

    ctx: StageContext
    features: Tensor
    keep: int

    @property
    def saliency(self) -> Tensor:
        return self.ctx.saliency()


def case(count: int, kind: str) -> Case:
    """The case of a number of tokens, visual first, then text."""
    hidden = torch.cat(
        [
            features(count, kind),
            torch.randn(TEXT, WIDTH, generator=torch.Generator().manual_seed(2)),
        ]
    )
    keep = max(1, int((1 - RATIO) * count + 0.5))
    g = torch.Generator().manual_seed(3)
    query, key = (
        torch.randn(HEADS, len(hidden), HEAD_DIM, generator=g),
        torch.randn(KV_HEADS, len(hidden), HEAD_DIM, generator=g),
    )
    qk = QueryKey(query, key, HEAD_DIM**-0.5)
    ctx = StageContext(
        layer=2,
        keep=keep,
        total=count,
        hidden=hidden,
        visual=torch.arange(count),
        origin=torch.arange(len(hidden)),
        vision_rows=torch.arange(count),
        items=(Item(0, count, (Part(1, *GRIDS[count]),)),),
        vision=DrawnVision(hidden[:count]),
        family=DrawnFamily(qk),  # type: ignore[arg-type]
        sample="drawn",
        query_key=lambda layer: qk,
    )
    return Case(ctx, hidden[:count], keep)
