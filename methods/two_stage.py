"""One method before the language model, another inside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from unibench import Budget, Chain, Method, Selection, Stage, StageContext, UsageError
from unibench.budget import as_fraction
from unibench.cost.accounting import rounded
from unibench.errors import unknown
from unibench.methods import _parts


@dataclass(frozen=True)
class TwoStage(Method):
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
        pre: name of the first method.
        intra: name of the second.
        pre_options: parameters of the first, for example ``method.pre_options={threshold: 0.5}``.
        intra_options: parameters of the second.
        split: part of the removal, on a logarithmic scale, that the first stage does: it keeps
            ``N * (keep / N) ** split``.
        pre_ratio: share that the first stage removes, instead of ``split``.
        intra_ratio: share of the rest that the second removes; with ``pre_ratio``, instead of the
            budget.
        variant: ``default``, or ``official_bug``: counts of the official code from the two ratios.
    """

    pre: str = "divprune"
    intra: str = "fastv"
    pre_options: Mapping[str, Any] | None = None
    intra_options: Mapping[str, Any] | None = None
    split: float = 0.5
    pre_ratio: float | None = None
    intra_ratio: float | None = None
    variant: str = "default"

    def __post_init__(self) -> None:
        if self.variant not in _parts.VARIANTS:
            raise unknown("variant of two_stage", self.variant, _parts.VARIANTS)
        if not 0 <= self.split <= 1:
            raise UsageError(f"method.split={self.split} is outside [0, 1]")
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
        _parts.like(self, self._chain)

    @property
    def _chain(self) -> Chain:
        return Chain(
            (_parts.part(self.pre, self.pre_options), _parts.part(self.intra, self.intra_options))
        )

    @property
    def uses_budget(self) -> bool:
        return self.intra_ratio is None and self._chain.uses_budget

    def stages(self, depth: int) -> Sequence[Stage]:
        pre, intra = self._chain.methods
        return [
            *(
                self._under(stage, lambda keep, total: (self.counts(keep, total)[0], total))
                for stage in pre.stages(depth)
            ),
            *(
                self._under(stage, lambda keep, total: _swapped(self.counts(keep, total)))
                for stage in intra.stages(depth)
            ),
        ]

    def counts(self, keep: int, total: int) -> tuple[int, int]:
        """Tokens after the first and after the second method, of ``total``, under a budget of
        ``keep``.
        """
        if self.pre_ratio is None:
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
            first = max(1, round(total * before) if self.pre == "divprune" else int(total * before))
            return first, int(first * inside)
        return Budget(before).keep(total), Budget(before * inside).keep(total)

    def _under(self, stage: Stage, budget: Callable[[int, int], tuple[int, int]]) -> Stage:
        """The stage with the ``(keep, total)`` that ``budget`` makes of the run's."""
        inner = stage.count or (lambda keep, total: keep)

        def select(ctx: StageContext) -> Selection | None:
            if self.intra_ratio is not None:
                ctx.note(
                    f"two_stage: ratios {self.pre_ratio} and {self.intra_ratio} given; the budget"
                    " is not used"
                )
            if self.variant == "official_bug":
                ctx.note("two_stage: official rounding")
            return stage.select(ctx)

        return replace(stage, select=select, count=lambda keep, total: inner(*budget(keep, total)))

    def evict(self, ctx: StageContext) -> Tensor | None:
        return self._chain.evict(ctx)

    @property
    def evicts(self) -> bool:
        return self._chain.evicts


def _swapped(pair: tuple[int, int]) -> tuple[int, int]:
    return pair[1], pair[0]
