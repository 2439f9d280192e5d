"""A method that an expression says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unibench.composition.expression import Expression, parsed
from unibench.ops import complement
from unibench.pruning import Method, Selection, Stage, StageContext


@dataclass(frozen=True)
class Composed(Method):
    """Keeps what the parts that an expression names choose together.

    Attributes:
        expression: of :func:`unibench.composition.parsed`.
    """

    expression: str = "score: norm; select: top_k"

    def __post_init__(self) -> None:
        super().__post_init__()
        parsed(self.expression)

    @property
    def parts(self) -> Expression:
        """The parts."""
        return parsed(self.expression)

    @property
    def text_aware(self) -> bool:  # type: ignore[override]
        return any(atom.text_aware for atom in self.parts.atoms)

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(self.parts.schedule.cut(), self.select, self.parts.needs),)

    def select(self, ctx: StageContext) -> Selection:
        parts = self.parts
        score = self._scored(ctx)
        wanted = parts.budget.even(ctx.keep)
        chosen = parts.select.select(ctx, score, ctx.keep - wanted)
        even = chosen[:0]
        if wanted:
            rest = complement(chosen, len(ctx.visual))
            # even steps from the front, so that the tail may hold none
            step = max(1, len(rest) // wanted)
            even = rest[step * torch.arange(wanted, device=rest.device)]
        values = parts.merge.merge(ctx, chosen, even)
        return Selection(torch.cat([chosen, even]), values, scores=score)

    def _scored(self, ctx: StageContext) -> Tensor | None:
        scores = [atom.score(ctx) for atom in self.parts.scores]
        if not scores:
            return None
        # a score that stands alone goes on as it is
        return scores[0] if len(scores) == 1 else self.parts.combine.combine(scores)
