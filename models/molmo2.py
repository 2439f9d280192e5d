"""Molmo 2: an overview and overlapping crops whose margins are left out, pooled 2 x 2 by attention,
with a text token behind each row; all visual tokens see each other.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

from torch import Tensor, nn

from unibench.errors import UsageError
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Item, Part


class Molmo2(Family):
    """Molmo2ForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("molmo2",)
    resizing: ClassVar = "tiles"
    # the end of the last row, in one block with the picture's tokens and the mark behind it
    closing: ClassVar[int] = 1

    def __init__(self, model: Any, processor: Any = None, **spaces: Any) -> None:
        super().__init__(model, processor, **spaces)
        text = self.text_model.config
        if len(text.rope_scaling_layers) < text.num_hidden_layers:
            # moved tokens are turned by the kind of a layer, and here layers of one kind differ
            raise UsageError(
                "Molmo2-O turns the layers of its decoder at two rates, which pruning does not"
                " follow; Molmo2-4B and Molmo2-8B can be pruned"
            )

    @property
    def vit_blocks(self) -> list[nn.Module]:
        return list(self.vision_tower.layers)

    def visual_kind(self, input_ids: Tensor) -> Tensor:
        config = self.model.config
        shown = input_ids == config.image_patch_id
        begun, ended = (
            (input_ids == mark).cumsum(1)
            for mark in (config.frame_start_token_id, config.frame_end_token_id)
        )
        # frames of a video have the token of pictures
        kinds: Tensor = shown.long() + (shown & (begun > ended)).long()
        return kinds

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        if call.modality == "video":
            return [(Part(*grid),) for grid in call.arguments["video_grids"].tolist()]
        return [
            (Part(1, low_rows, low_columns, overview=True), Part(1, rows, columns))
            for low_rows, low_columns, rows, columns in call.arguments["image_grids"].tolist()
        ]

    def pooled(self, call: VisionCall) -> Tensor:
        """``[tokens, patches of a token]`` rows of the patches of all crops; -1 is none."""
        name = "image_token_pooling" if call.modality == "image" else "video_token_pooling"
        rows: Tensor = call.arguments[name]
        return rows[(rows >= 0).any(-1)]

    def split_pixels(self, values: Tensor, call: VisionCall, items: list[Item]) -> list[Tensor]:
        tokens = self.pooled(call).split([len(item) for item in items])
        # crops are numbered through the call, so the last patch of a picture tells its last crop
        ends = [0, *(int(rows.max()) // values.shape[1] + 1 for rows in tokens)]
        return [values[start:end] for start, end in itertools.pairwise(ends)]

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        rows, patches = self.pooled(call).to(values.device), values.flatten(0, 1)
        there = (rows >= 0).to(values)[..., None]
        # a window at the border of a picture has fewer patches
        sums: Tensor = (patches[rows.clip(0)] * there).sum(1)
        return sums / there.sum(1)
