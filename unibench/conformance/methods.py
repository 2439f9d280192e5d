"""Methods that try the engine, not the literature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from unibench.pruning import Method, Needs, Selection, Stage, StageContext


class _Unbudgeted(Method):
    """Keeps what it says, whatever the budget."""

    @property
    def uses_budget(self) -> bool:
        return False


@dataclass(frozen=True)
class KeepAll(_Unbudgeted):
    """Keeps everything in another order, and looks at the tower.

    Attributes:
        layers: in front of which it is asked.
        vision: block of the tower that is recorded; None records nothing.
    """

    layers: tuple[int, ...] = (0,)
    vision: int | None = -1

    def stages(self, depth: int) -> Sequence[Stage]:
        blocks = () if self.vision is None else (self.vision,)
        needs = Needs(vit_attention=blocks, vit_hidden=blocks)
        return [Stage(layer, self.select, needs, exact=False) for layer in self.layers]

    def select(self, ctx: StageContext) -> Selection:
        return Selection(torch.arange(len(ctx.visual)).flip(0))


@dataclass(frozen=True)
class Every(_Unbudgeted):
    """Keeps every third token, at each of some layers.

    Attributes:
        layers: in front of which it cuts.
    """

    layers: tuple[int, ...] = (0,)

    def stages(self, depth: int) -> Sequence[Stage]:
        return [Stage(layer, self.select, exact=False) for layer in self.layers]

    def select(self, ctx: StageContext) -> Selection:
        return Selection(torch.arange(len(ctx.visual))[::3])


@dataclass(frozen=True)
class Look(_Unbudgeted):
    """Shows its context and keeps everything.

    Attributes:
        look: is called with the context.
        layer: in front of which it is asked.
        needs: what it declares.
    """

    look: Callable[[StageContext], None]
    layer: int
    needs: Needs  # type: ignore[misc]  # an instance has its own

    def stages(self, depth: int) -> Sequence[Stage]:
        return [Stage(self.layer, self.select, self.needs, exact=False)]

    def select(self, ctx: StageContext) -> None:
        self.look(ctx)
