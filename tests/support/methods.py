"""Methods that exercise the engine, not the literature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext

Choose = Callable[[int], Tensor]


def every(step: int, start: int = 0) -> Choose:
    """Every ``step``-th token."""
    return lambda count: torch.arange(min(start, count - 1), count, step)


class Unbudgeted(Method):
    """Keeps what it says, whatever the budget."""

    @property
    def uses_budget(self) -> bool:
        return False


@dataclass(frozen=True)
class Fixed(Unbudgeted):
    """The same choice at given layers, whatever the budget says."""

    choices: dict[int, Choose]

    def stages(self, depth: int) -> Sequence[Stage]:
        return [Stage(layer, self.select, exact=False) for layer in self.choices]

    def select(self, ctx: StageContext) -> Selection:
        return Selection(self.choices[ctx.layer](len(ctx.visual)))


@dataclass(frozen=True)
class KeepAll(Unbudgeted):
    """Keeps everything in a shuffled order, and asks for all there is."""

    layers: tuple[int, ...] = (0, 2)
    vit: bool = True

    def stages(self, depth: int) -> Sequence[Stage]:
        wanted = Needs(llm_attention=(0, 1))
        if self.vit:
            wanted |= Needs(vit_attention=(-1, -2), vit_hidden=(-2,))
        return [
            Stage(
                layer, lambda ctx: Selection(torch.randperm(len(ctx.visual))), wanted, exact=False
            )
            for layer in self.layers
        ]


@dataclass(frozen=True)
class Pyramid(Unbudgeted):
    """Half of what is left, by attention of the last token, at several layers."""

    layers: tuple[int, ...] = (2, 3, 5)

    def stages(self, depth: int) -> Sequence[Stage]:
        return [
            Stage(layer, self.select, Needs(llm_attention=(layer - 1,)), exact=False)
            for layer in self.layers
        ]

    def select(self, ctx: StageContext) -> Selection:
        scores = ctx.attention(ctx.layer - 1)[:, 0].mean(0)
        return Selection(scores.topk(max(1, len(scores) // 2)).indices)


@dataclass(frozen=True)
class Withdraw(Unbudgeted):
    """No visual token enters the given layer (as VTW)."""

    layer: int = 3

    def stages(self, depth: int) -> Sequence[Stage]:
        return [Stage(self.layer, lambda ctx: Selection(ctx.visual[:0]), exact=False)]


@dataclass(frozen=True)
class MergeVit(Unbudgeted):
    """Keeps what the vision tower attends to; the rest is averaged into every fifth kept token."""

    layer: int = -2

    def stages(self, depth: int) -> Sequence[Stage]:
        return [Stage(0, self.select, Needs(vit_attention=(self.layer,)), exact=False)]

    def select(self, ctx: StageContext) -> Selection:
        assert ctx.vision is not None
        order = ctx.vision.received(self.layer, fill=-1.0).argsort(descending=True)
        return _merged(ctx, order, max(2, len(order) // 3))


@dataclass(frozen=True)
class MergeLlm(Unbudgeted):
    """Keeps what the instruction attends to and recycles the rest, at two layers (as SparseVLM)."""

    layers: tuple[int, ...] = (2, 4)

    def stages(self, depth: int) -> Sequence[Stage]:
        return [
            Stage(layer, self.select, Needs(llm_attention=(layer - 1,)), exact=False)
            for layer in self.layers
        ]

    def select(self, ctx: StageContext) -> Selection:
        order = ctx.attention(ctx.layer - 1, ctx.instruction).mean((0, 1)).argsort(descending=True)
        return _merged(ctx, order, max(2, len(order) // 2))


@dataclass(frozen=True)
class Evict(Unbudgeted):
    """Cuts before the model and again inside it; every third cache entry stays for decoding."""

    def stages(self, depth: int) -> Sequence[Stage]:
        return [*MergeVit().stages(depth), *Pyramid((2,)).stages(depth)]

    def evict(self, ctx: StageContext) -> Tensor:
        return torch.arange(0, len(ctx.visual), 3)


def _merged(ctx: StageContext, order: Tensor, keep: int) -> Selection:
    kept, rest = order[:keep], order[keep:]
    values = ctx.visual_hidden[kept]
    if len(rest):
        values[::5] = (values[::5] + ctx.visual_hidden[rest].mean(0)) / 2
    return Selection(kept, values)


@dataclass(frozen=True)
class Look(Unbudgeted):
    """Calls a function with the context of a stage and keeps everything."""

    see: Callable[[StageContext], object]
    layer: int = 0
    wanted: Needs = field(default_factory=Needs)

    def stages(self, depth: int) -> Sequence[Stage]:
        def select(ctx: StageContext) -> None:
            self.see(ctx)

        return [Stage(self.layer, select, self.wanted, exact=False)]


@dataclass(frozen=True)
class Recording(Method):
    """Notes what another method chose, so that the slow reference can be given the same.

    ``seen[layer]`` is (kept indices in the unpruned sequence, their new values or None).
    """

    centres = True  # of an inner one that merges
    inner: Method
    seen: dict[int, tuple[Tensor, Tensor | None]] = field(default_factory=dict)

    @property
    def uses_budget(self) -> bool:
        return self.inner.uses_budget

    def stages(self, depth: int) -> Sequence[Stage]:
        return [replace(stage, select=self._noted(stage)) for stage in self.inner.stages(depth)]

    def _noted(self, stage: Stage) -> Callable[[StageContext], Selection | None]:
        def select(ctx: StageContext) -> Selection | None:
            selection = stage.select(ctx)
            if selection is not None:
                keep, order = selection.keep.sort()
                values = None if selection.values is None else selection.values[order]
                self.seen[ctx.layer] = (ctx.origin[ctx.visual[keep]], values)
            return selection

        return select

    def evict(self, ctx: StageContext) -> Tensor | None:
        return self.inner.evict(ctx)

    @property
    def evicts(self) -> bool:
        return self.inner.evicts

    @property
    def merges(self) -> dict[int, tuple[Tensor, Tensor]]:
        return {
            layer: (rows, values)
            for layer, (rows, values) in self.seen.items()
            if values is not None
        }


@dataclass(frozen=True)
class At(Unbudgeted):
    """Calls functions at layers, and keeps what they say."""

    calls: dict[int, Callable[[StageContext], Selection | None]]
    needs: Needs = field(default_factory=Needs)  # type: ignore[misc]

    def stages(self, depth: int) -> Sequence[Stage]:
        return [Stage(layer, call, self.needs, exact=False) for layer, call in self.calls.items()]
