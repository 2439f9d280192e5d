"""Attention of the vision tower without what it gives to the same place in every frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from unibench import Method, StageContext
from unibench.annotations import Weight
from unibench.methods.visionzip import VisionZip
from unibench.pruning.wrapper import Wrapper

TINY = 1e-12


@dataclass(frozen=True)
class SToP(Wrapper):
    """Keeps what a method keeps when places that the tower looks at in every frame count less.

    A wrapper for videos. The sink score of a place is the mean attention over the frames there,
    raised to ``gamma`` and scaled to 0 to 1; ``mu`` times as much is taken off in every frame.

    Paper: Sink-Token-Aware Pruning (SToP), arXiv 2604.20937.
    Code: rlqja1107/SToP@bef3c729 pruning/visionzip/llava_arch.py (the formula),
        eval/utils/config.py (``mu``, ``gamma``); around other methods it is ours.
    Cost: O(N) beside the method's own.
    Deviations: attention is first scaled so that each frame sums to 1, since families count it
        differently; the official ``mu`` of Qwen2.5-VL, 3.7, is of sums. The official code also
        moves the contextual targets of VisionZip off sinks, and has a second part for HoliTom's
        merging in time: both are left out. Pictures have no frames and stay as they are, which the
        row says.

    Attributes:
        inner: visionzip, cls_topk, vispruner, scope, holov, fastvid or holitom.
        options: on the command line, parameters of the method.
        mu: released: 0.03 for VisionZip, 0.02 for FastVID, 0.04 for HoliTom.
        gamma: released: 1.1.
    """

    inner: Method = field(default=VisionZip(), metadata={"options": "options"})
    mu: Weight = 0.03
    gamma: Weight = 1.1
    corrects: ClassVar = "saliency"
    category = "ViT only"
    aim = "importance"

    def saliency(self, ctx: StageContext, seen: Tensor) -> Tensor:
        corrected, videos = seen.clone(), 0
        frames: dict[int, list[Tensor]] = {}
        for grid in ctx.grids():
            if grid.video is not None and not grid.separators:
                frames.setdefault(grid.video, []).append(grid.rows)
        for rows in frames.values():
            # one frame is all sink; frames of two sizes share no places
            if len(rows) < 2 or len({len(frame) for frame in rows}) > 1:
                continue
            videos += 1
            places = torch.stack(rows).to(seen.device)  # [frames, n]
            shown = seen[places] / seen[places].sum(1, keepdim=True).clamp_min(TINY)
            sink = shown.mean(0) ** self.gamma
            low, high = sink.aminmax()
            corrected[places] = shown - self.mu * (sink - low) / (high - low + TINY)
        if not videos:
            ctx.note("stop: no frames, so that nothing is taken off")
        return corrected
