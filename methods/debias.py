"""Attention without what it gives to a place whatever is shown there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from unibench import Method, StageContext
from unibench.methods import _prior
from unibench.methods.fastv import FastV
from unibench.pruning.wrapper import Wrapper

if TYPE_CHECKING:
    from unibench.facts import ModelFacts
    from unibench.pruning import Family

EPS = 1e-7


@dataclass(frozen=True)
class Debias(Wrapper):
    """Keeps what a method keeps when attention is divided by the model's positional prior.

    A wrapper. The prior is the mean attention by place over many pictures, the file that
    ``calibrate method=d2pruner`` writes; D2Pruner divides by it once, here it stands between any
    method and the attention inside the language model that it reads.

    Paper: D2Pruner (Debiased importance and structural Diversity), AAAI 2026, arXiv 2512.19443.
    Code: none that could be had; around other methods it is ours.
    Cost: O(N) beside the method's own.
    Deviations: attention of every query row is divided by the prior of the last prompt token at the
        layer that the file names.

    Attributes:
        inner: fastv, pyramiddrop, sparsevlm, fitprune or mustdrop.
        options: on the command line, parameters of the method.
        prior: file of the positional prior; ``random:<seed>`` exists for tests.
    """

    inner: Method = field(default=FastV(), metadata={"options": "options"})
    prior: str | None = None
    corrects: ClassVar = "attention"
    calibrated = "required"
    category = "LLM only"
    aim = "importance"

    def __post_init__(self) -> None:
        super().__post_init__()
        _prior.check(self.prior, "debias")

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        if self.prior is None:
            return _prior.missing("debias")
        return super().requires(family, model)

    def attention(self, ctx: StageContext, given: Tensor) -> Tensor:
        assert self.prior is not None
        return given / (_prior.load(self.prior).at(ctx).to(given) + EPS)
