"""All visual tokens leave in the middle of the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from unibench import Method, Selection, Stage, StageContext, UsageError
from unibench.annotations import Natural
from unibench.cost.accounting import spread, withdrawal_layer
from unibench.methods import _calibration


@dataclass(frozen=True)
class VTW(Method):
    """Keeps every visual token up to decoder layer ``layer`` and none from there on.

    What the answer needs of the picture has moved into the text tokens by then; the withdrawn
    tokens stay in the caches of the layers before. A number of tokens after the cut means nothing
    here: with ``budget.mode=layer_average`` the layer follows from the budget, ``keep * depth / N``
    to the nearest.

    Paper: Boosting MLLMs with Visual Tokens Withdrawal, AAAI 2025, arXiv 2405.05803.
    Code: lzhxmu/VTW@a3d8cfc3 llava/model/language_model/VTW.py (pe_type keep).
    Cost: none in a run; findk takes depth - 4 prefills for each sample.
    Deviations: the true visual span instead of positions 35..610; the search of the layer, findk,
        is ``unibench.calibrate.withdrawal_layer``.

    Attributes:
        layer: first decoder layer without visual tokens; None is 15 of 32, at the same relative
            depth.
        calibration: file of ``calibrate method=vtw to=...``, which holds the layer instead.
    """

    layer: Natural | None = None
    calibration: str | None = None
    adaptive: ClassVar[bool] = True
    calibrated = "optional"
    category = "LLM only"
    aim = "importance"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calibration is None:
            return
        _calibration.load(self.calibration, "vtw", {"layer": 0})
        if self.layer is not None:
            raise UsageError("method.layer and method.calibration both say where vtw withdraws")

    @property
    def uses_budget(self) -> bool:
        return False  # with budget.mode=layer_average, which has one, the layer follows from it

    @property
    def _layer(self) -> int | None:
        """Where tokens are withdrawn, if anything says it."""
        if self.calibration is None:
            return self.layer
        return int(_calibration.load(self.calibration, "vtw", {"layer": 0}).tensors["layer"])

    def stages(self, depth: int) -> Sequence[Stage]:
        layer = self._layer
        if layer is None:
            (layer,) = spread((15,), 32, depth)
        return (Stage(layer, self.select, count=lambda keep, total: 0),)

    def averaged(self, depth: int) -> Sequence[Stage]:
        if self._layer is not None:
            given = "method.calibration" if self.layer is None else f"method.layer={self.layer}"
            raise UsageError(
                f"{given} and budget.mode=layer_average both say where vtw withdraws; leave out one"
            )
        return [
            # a stage in front of every layer: which one cuts follows from a sample's tokens
            Stage(layer, self.select, count=partial(_left, layer, depth))
            for layer in range(1, depth)
        ]

    def select(self, ctx: StageContext) -> Selection | None:
        # an empty selection: a count of 0 is the withdrawal
        return None if ctx.keep else Selection(ctx.visual[:0])


def _left(layer: int, depth: int, keep: int, total: int) -> int:
    """Visual tokens that enter ``layer``."""
    return total if layer < withdrawal_layer(keep, total, depth) else 0
