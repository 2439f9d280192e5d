"""One method before the language model, another inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from unibench import Budget, EncoderStage, Method, Selection, Stage, StageContext, UsageError
from unibench.annotations import Share, Weight
from unibench.budget import as_fraction
from unibench.cost.accounting import rounded
from unibench.methods._variants import Reproduction
from unibench.methods.divprune import DivPrune
from unibench.methods.fastv import FastV
from unibench.pruning import Composite


@dataclass(frozen=True)
class TwoStage(Composite):
    """Keeps what a pre-LLM method keeps and, of that, what a method inside the language model
    keeps.

    The budget is of both together: with ``split`` 0.5 each stage removes the same share of what
    reaches it, so 0.889 is 0.667 before and 0.667 of the rest inside, and exactly ``keep`` tokens
    are left.

    Paper: UniPruneBench, arXiv 2511.02650, section 4.3 and Table 5.
    Code: TianfanPeng/VLMUniPruneBench@f93768fc layer_prune.py, custom_internvl.py.
    Cost: that of both.
    Deviations: one rounding rule, of the original number of tokens (official: whole parts of the
        current number, stage by stage); sequence order between the stages.

    Attributes:
        pre: the first method.
        intra: the second.
        pre_options: on the command line, parameters of the first, for example
            ``method.pre_options={threshold: 0.5}``.
        intra_options: on the command line, parameters of the second.
        split: part of the removal, on a logarithmic scale, that the first stage does: it keeps
            ``N * (keep / N) ** split``.
        pre_ratio: share that the first stage removes, instead of ``split``.
        intra_ratio: share of the rest that the second removes; with ``pre_ratio``, instead of the
            budget.
        variant: ``default``, or ``official_bug``: counts of the official code from the two ratios.
    """

    pre: Method = field(default=DivPrune(), metadata={"options": "pre_options"})
    intra: Method = field(default=FastV(), metadata={"options": "intra_options"})
    split: Share = 0.5
    pre_ratio: Weight | None = None
    intra_ratio: Weight | None = None
    variant: Reproduction = "default"
    category = "two stages"
    aim = "hybrid"

    def __post_init__(self) -> None:
        super().__post_init__()
        for ratio in (self.pre_ratio, self.intra_ratio):
            Budget.parse(ratio=ratio)
        if self.intra_ratio is not None and self.pre_ratio is None:
            raise UsageError(
                "method.intra_ratio needs method.pre_ratio; with one of them the other follows from"
                " the budget: give method.pre_ratio"
            )
        if self.variant == "official_bug" and self.intra_ratio is None:
            raise UsageError(
                "method.variant=official_bug rounds the ratio of each stage: give method.pre_ratio"
                " and method.intra_ratio"
            )

    @property
    def parts(self) -> Sequence[Method]:
        return self.pre, self.intra

    @property
    def uses_budget(self) -> bool:
        return self.intra_ratio is None and super().uses_budget

    def stages(self, depth: int) -> Sequence[Stage]:
        first = [stage.under(self._before) for stage in self.pre.stages(depth)]
        second = [stage.under(self._after) for stage in self.intra.stages(depth)]
        return [replace(cut, select=partial(self._noted, cut)) for cut in (*first, *second)]

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        return ()  # the tower would merge down to the budget of both stages

    def counts(self, keep: int, total: int) -> tuple[int, int]:
        """Tokens after the first and after the second method, of ``total``, under a budget of
        ``keep``.

        Raises:
            UsageError: the first method's ratio leaves fewer tokens than the budget.
        """
        if self.pre_ratio is None:
            # never below keep: rounding must not leave the second stage too few
            return min(total, max(keep, rounded(total * (keep / total) ** self.split))), keep
        before = 1 - as_fraction(self.pre_ratio, "method.pre_ratio")
        if self.intra_ratio is None:
            first = Budget(before).keep(total)
            if first < keep:
                raise UsageError(
                    f"method.pre_ratio={self.pre_ratio} leaves {first} of {total} tokens, fewer"
                    f" than the budget of {keep}"
                )
            return first, keep
        inside = 1 - as_fraction(self.intra_ratio, "method.intra_ratio")
        if self.variant == "official_bug":
            # UniPruneBench rounds in DivPrune and floors in its other methods; it multiplies binary
            # fractions, of which int(100 * 0.29) is 28
            share = total * float(before)
            first = max(1, round(share) if isinstance(self.pre, DivPrune) else int(share))
            # whole parts of the current number, so that the second may reach 0
            return first, int(first * float(inside))
        # fractions: a product of two shares is rounded once
        return Budget(before).keep(total), Budget(before * inside).keep(total)

    def _before(self, keep: int, total: int) -> tuple[int, int]:
        """What the first method is to keep, of how many."""
        return self.counts(keep, total)[0], total

    def _after(self, keep: int, total: int) -> tuple[int, int]:
        """What the second method is to keep, of how many."""
        left, kept = self.counts(keep, total)
        # the second method counts from what the first left
        return kept, left

    def _noted(self, stage: Stage, ctx: StageContext) -> Selection | None:
        if self.intra_ratio is not None:
            ctx.note(
                f"two_stage: ratios {self.pre_ratio} and {self.intra_ratio} given; the budget is"
                " not used"
            )
        if self.variant == "official_bug":
            ctx.note("two_stage: official rounding")
        return stage.select(ctx)
