"""Visual tokens leave in three stages: in the vision tower, in the prefill, and from the cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unibench import EncoderStage, Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Behind, Cosine, Share, Window
from unibench.cost.accounting import spread
from unibench.methods import _calibration
from unibench.methods.mustdrop_vit import MustDropVit
from unibench.ops import top_k


@dataclass(frozen=True)
class MustDrop(Method):
    """Keeps what the vision tower or the text looks at, after windows of like patches became one
    token.

    First, windows whose patches are alike are merged, and the tokens with the most CLS attention
    become the key set. Then, at four cuts, a token goes if the text after the picture gives it less
    than ``global_threshold`` of all it gives to visual tokens, and no word gives it
    ``individual_threshold``, and it is not in the key set. Last, before decoding, the caches from
    the first cut's layer on lose the tokens that did not reach the end.

    Paper: Multi-Stage Vision Token Dropping (MustDrop), arXiv 2411.10803.
    Code: liuting20/MustDrop@909afa53 clip_encoder.py, local_merge.py, modelling_sparse_llama.py.
    Cost: O(N D) for the windows, one layer's CLS attention, O(H T N) attention at each cut.
    Deviations: towers whose projector joins patches have their output merged, and the row says so;
        sequence order and original positions (official: merged windows first, renumbered); towers
        without a CLS token give received attention. Not a budget method: what is left depends on
        the sample and is measured; ``unibench.calibrate.thresholds`` finds thresholds for a mean on
        a set of samples.

    Attributes:
        layers: decoder layers whose inputs are cut; empty is 3, 7, 11 and 15 of 32, at the same
            relative depth.
        global_threshold: published for TextVQA: 0.001 (nominal 192), 0.0012 (128), 0.011 (64).
        individual_threshold: 0.001, 0.001, 0.01 there.
        window: side of a window in patches.
        similarity: mean cosine within a window from which it is merged.
        key_share: of the tokens after merging, the key set.
        calibration: file of ``calibrate method=mustdrop to=...``, which holds both thresholds
            instead.
    """

    layers: tuple[Behind, ...] = ()
    global_threshold: Share = 0.011
    individual_threshold: Share = 0.01
    window: Window = 3
    similarity: Cosine = 0.8
    key_share: Share = 0.08
    calibration: str | None = None
    adaptive: ClassVar[bool] = True
    data_timed: ClassVar[bool] = True
    text_aware: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    calibrated = "optional"
    corrected = frozenset({"attention"})
    category = "hybrid"
    aim = "hybrid"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._thresholds  # noqa: B018 - refuses a file that is none

    @property
    def _thresholds(self) -> tuple[float, float]:
        """Of attention from all text, and from a single text token."""
        if self.calibration is None:
            return self.global_threshold, self.individual_threshold
        names = {"global_threshold": 0, "individual_threshold": 0}
        found = _calibration.load(self.calibration, "mustdrop", names).tensors
        return float(found["global_threshold"]), float(found["individual_threshold"])

    @property
    def uses_budget(self) -> bool:
        return False

    def stages(self, depth: int) -> Sequence[Stage]:
        # in front of these: the code filters behind layers 2, 6, 10 and 14
        layers = self.layers or spread((3, 7, 11, 15), 32, depth)
        wanted = MustDropVit.needs | Needs(vit_attention=(-1,))
        return [
            Stage(0, self._merge, wanted, _unlimited, exact=False),
            *(
                Stage(
                    layer, self._filter, Needs(llm_attention=(layer - 1,)), _unlimited, exact=False
                )
                for layer in layers
            ),
        ]

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        return self._windows.encoder(blocks)

    def averaged(self, depth: int) -> Sequence[Stage]:
        return self.stages(depth)  # thresholds decide, whatever the budget counts

    def _merge(self, ctx: StageContext) -> Selection:
        ctx.note("mustdrop: thresholds decide, not the budget")
        merged = self._windows.select(ctx)
        looked_at = self._cls(ctx).to(merged.keep.device)[merged.keep]
        # of the merged sequence, as in the code: 47 of 576 where nothing was merged
        key = top_k(looked_at, math.ceil(self.key_share * len(looked_at)))
        # by original number: places in the sequence change at every cut
        ctx.memory["key"] = ctx.vision_rows[merged.keep[key]]
        return merged

    @property
    def _windows(self) -> MustDropVit:
        return MustDropVit("threshold", self.window, self.similarity)

    def _cls(self, ctx: StageContext) -> Tensor:
        assert ctx.vision is not None
        assert ctx.family is not None
        if ctx.family.prefix_tokens:
            return ctx.vision.cls(-1)
        ctx.note("received attention (no CLS token)")
        return ctx.vision.received(-1)

    def _filter(self, ctx: StageContext) -> Selection:
        # without text behind the picture the last token of the prompt asks
        rows = ctx.instruction if len(ctx.instruction) else None
        given = ctx.attention(ctx.layer - 1, rows).mean(0)  # [text, N]
        overall, most = given.sum(0), given.amax(0)
        of_all, of_one = self._thresholds
        # both strict: a token exactly at a threshold stays
        little = (overall < of_all * overall.sum()) & (most < of_one)
        keep = (
            ~little | torch.isin(ctx.vision_rows, ctx.memory["key"].to(ctx.vision_rows.device))
        ).nonzero()[:, 0]
        # the layer in front of the first cut: caches of layers 0 and 1 keep everything
        ctx.memory.setdefault("first", torch.tensor(ctx.layer - 1))
        ctx.memory["left"] = ctx.vision_rows[keep]
        return Selection(keep)

    def evict(self, ctx: StageContext) -> Tensor | None:
        if "left" not in ctx.memory or ctx.layer < int(ctx.memory["first"]):
            return None
        return torch.isin(ctx.vision_rows, ctx.memory["left"].to(ctx.vision_rows.device)).nonzero()[
            :, 0
        ]


def _unlimited(keep: int, total: int) -> int:
    return total
