"""One method at several layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from unibench import EncoderStage, Method, Selection, Stage, StageContext, UsageError
from unibench.annotations import fields_of
from unibench.cost.accounting import rounded
from unibench.methods._variants import Reproduction
from unibench.methods.fastv import FastV
from unibench.pruning import Composite

Cut = Sequence[int | float | None]


@dataclass(frozen=True)
class Schedule(Composite):
    """Keeps what a method inside the language model keeps, again and again at the layers given.

    Paper: UniPruneBench, arXiv 2511.02650 (INTRA_LLM_LAYER_SPECS).
    Code: TianfanPeng/VLMUniPruneBench@f93768fc layer_prune.py.
    Cost: that of the method, at each cut.
    Deviations: shares are of the original number of tokens, rounded once (official: of the current
        number, whole parts, so that they compound and can reach 0).

    Attributes:
        method: which one; it must have a parameter ``layer``.
        cuts: pairs of a layer and the share of the original tokens KEPT from there on; null is the
            budget.
        options: on the command line, other parameters of the method.
        variant: ``default``, or ``official_bug``: shares compound as in the official code.
    """

    method: Method = field(default=FastV(), metadata={"options": "options"})
    cuts: tuple[Cut, ...] = ((2, 0.5), (4, None))
    variant: Reproduction = "default"
    category = "LLM only"
    aim = "importance"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "layer" not in fields_of(type(self.method)):
            raise UsageError(
                f"method.method: {type(self.method).__name__} has no parameter layer, so it cannot"
                " cut at the layers of a schedule"
            )
        if any(len(cut) != 2 for cut in self.cuts):
            raise UsageError(f"method.cuts={[list(cut) for cut in self.cuts]}: pairs are wanted")
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
        list(self.parts)  # made now, so that the method can refuse a layer

    @property
    def parts(self) -> Sequence[Method]:
        return [replace(self.method, layer=layer) for layer, _ in self._sorted]  # type: ignore[type-var]

    @property
    def uses_budget(self) -> bool:
        return not self._literal and super().uses_budget

    def stages(self, depth: int) -> Sequence[Stage]:
        stages = [
            stage.under(partial(self._budget, number))
            for number, part in enumerate(self.parts)
            for stage in part.stages(depth)
        ]
        return [replace(stage, select=partial(self._noted, stage)) for stage in stages]

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        return ()

    def count(self, number: int, keep: int, total: int) -> int:
        """Tokens after a cut, of ``total``, under a budget of ``keep``."""
        shares = [keep / total if share is None else float(share) for _, share in self._sorted]
        if self.variant == "official_bug":
            for share in shares[: number + 1]:
                total = int(total * share)
            return total
        # a share below the budget would leave the later cuts too few
        return max(1 if self._literal else keep, rounded(total * shares[number]))

    @property
    def _sorted(self) -> list[Cut]:
        # counts compound in the order of layers, not of the configuration
        return sorted(self.cuts, key=lambda cut: cut[0] or 0)

    @property
    def _literal(self) -> bool:
        """Whether every share is given."""
        return all(share is not None for _, share in self.cuts)

    def _budget(self, number: int, keep: int, total: int) -> tuple[int, int]:
        return self.count(number, keep, total), total

    def _noted(self, stage: Stage, ctx: StageContext) -> Selection | None:
        if self._literal:
            ctx.note("schedule: all shares given; the budget is not used")
        if self.variant == "official_bug":
            ctx.note("schedule: official rounding")
        return stage.select(ctx)
