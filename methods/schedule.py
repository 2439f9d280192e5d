"""One method at several layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from unibench import Chain, Method, Selection, Stage, StageContext, UsageError
from unibench.cost.accounting import rounded
from unibench.errors import unknown
from unibench.methods import _parts

Cut = Sequence[int | float | None]


@dataclass(frozen=True)
class Schedule(Method):
    """Keeps what a method inside the language model keeps, again and again at the layers given.

    Paper: UniPruneBench, arXiv 2511.02650 (INTRA_LLM_LAYER_SPECS).
    Code: TianfanPeng/VLMUniPruneBench@f93768fc layer_prune.py.
    Cost: that of the method, at each cut.
    Deviations: shares are of the original number of tokens, rounded once (official: of the current
        number, whole parts, so that they compound and can reach 0).

    Attributes:
        method: its name; it must have a parameter ``layer``.
        cuts: pairs of a layer and the share of the original tokens KEPT from there on; null is the
            budget.
        options: other parameters of the method.
        variant: ``default``, or ``official_bug``: shares compound as in the official code.
    """

    method: str = "fastv"
    cuts: tuple[Cut, ...] = ([2, 0.5], [4, None])  # lists inside, as a configuration gives them
    options: Mapping[str, Any] | None = None
    variant: str = "default"

    def __post_init__(self) -> None:
        if self.variant not in _parts.VARIANTS:
            raise unknown("variant of schedule", self.variant, _parts.VARIANTS)
        for layer, share in self.cuts:
            if not isinstance(layer, int) or not (share is None or 0 < share <= 1):
                raise UsageError(
                    f"method.cuts: [{layer}, {share}] is no pair of a layer and a share in (0, 1]"
                    " or null"
                )
        if len({layer for layer, _ in self.cuts}) < len(self.cuts):
            raise UsageError(
                f"method.cuts={[list(cut) for cut in self.cuts]} cuts twice at one layer"
            )
        _parts.like(self, self._chain)

    @property
    def _sorted(self) -> list[Cut]:
        return sorted(self.cuts, key=lambda cut: cut[0] or 0)

    @property
    def _chain(self) -> Chain:
        return Chain(
            tuple(_parts.part(self.method, self.options, layer=layer) for layer, _ in self._sorted)
        )

    @property
    def uses_budget(self) -> bool:
        return any(share is None for _, share in self.cuts)

    def stages(self, depth: int) -> Sequence[Stage]:
        parts = enumerate(self._chain.methods)
        return [
            replace(stage, select=partial(self._noted, stage), count=partial(self.count, number))
            for number, part in parts
            for stage in part.stages(depth)
        ]

    def count(self, number: int, keep: int, total: int) -> int:
        """Tokens after a cut, of ``total``, under a budget of ``keep``."""
        shares = [keep / total if share is None else float(share) for _, share in self._sorted]
        if self.variant == "official_bug":
            for share in shares[: number + 1]:
                total = int(total * share)
            return total
        literal = all(share is not None for _, share in self.cuts)
        return max(1 if literal else keep, rounded(total * shares[number]))

    def _noted(self, stage: Stage, ctx: StageContext) -> Selection | None:
        if all(share is not None for _, share in self.cuts):
            ctx.note("schedule: all shares given; the budget is not used")
        if self.variant == "official_bug":
            ctx.note("schedule: official rounding")
        return stage.select(ctx)
