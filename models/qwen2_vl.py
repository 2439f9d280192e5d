"""Qwen2-VL: native resolution, groups of 2 x 2 patches merged into tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unibench.pruning.attention import QueryKey
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Item, Part
from unibench.pruning.pixels import PixelContext


class Qwen2VL(Family):
    """Qwen2VLForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl",)
    resizing: ClassVar = "native"
    pixel_dropping = True
    # of the published processors, where the model came without one
    pixel_mean: ClassVar[tuple[float, ...]] = (0.48145466, 0.4578275, 0.40821073)
    pixel_std: ClassVar[tuple[float, ...]] = (0.26862954, 0.26130258, 0.27577711)
    provides: ClassVar[frozenset[str]] = frozenset({"projector", "video_time"})

    @property
    def vision_tower(self) -> Any:
        return self.core.visual

    @property
    def vit_blocks(self) -> list[nn.Module]:
        return list(self.vision_tower.blocks)

    @property
    def vit_attentions(self) -> list[nn.Module]:
        return [block.attn for block in self.vision_tower.blocks]

    @property
    def object_layer(self) -> int:
        """The block in the middle."""
        return max(0, len(self.vit_blocks) // 2 - 1)

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        merge = self.vision_tower.spatial_merge_size
        return [(Part(t, h // merge, w // merge),) for t, h, w in self.grid(call).tolist()]

    def split_pixels(self, values: Tensor, call: VisionCall, items: list[Item]) -> list[Tensor]:
        return list(values.split(self.grid(call).prod(-1).tolist()))

    def join(self, chunks: list[Tensor]) -> Tensor:  # [1, tokens, ...] for each image or window
        return torch.cat(chunks, dim=1)[0]

    def whole(self, chunks: list[QueryKey], call: VisionCall) -> list[QueryKey]:
        query, key = (
            torch.cat([getattr(qk, part) for qk in chunks], dim=2) for part in ("query", "key")
        )
        sizes = [
            h * w for t, h, w in self.grid(call).tolist() for _ in range(t)
        ]  # frames are attended one by one
        pairs = zip(query.split(sizes, 2), key.split(sizes, 2), strict=True)
        return [QueryKey(q, k, chunks[0].scaling) for q, k in pairs]

    def strip(self, hidden: Tensor) -> Tensor:
        return hidden

    @property
    def projector(self) -> tuple[nn.Module, ...]:
        return tuple(self.vision_tower.merger.mlp)

    def pixel_tokens(self, call: VisionCall) -> list[PixelContext]:
        merge, values = self.vision_tower.spatial_merge_size, call.arguments["pixel_values"]
        config = self.vision_tower.config
        frames, side = config.temporal_patch_size, config.patch_size
        # a picture is its own second frame, so the first says it all
        pixels = values.float().view(len(values), -1, frames, side * side)[:, :, 0]
        mean, std = (
            torch.tensor(scale, device=values.device)[:, None]
            for scale in (self.image_mean, self.image_std)
        )
        # the four patches of a token follow each other in the processor's order
        tokens = (pixels * std + mean).view(len(values) // merge**2, -1)
        sizes = [(t * h // merge, w // merge) for t, h, w in self.grid(call).tolist()]
        pictures = tokens.split([height * width for height, width in sizes])
        return [PixelContext(picture, *size) for picture, size in zip(pictures, sizes, strict=True)]

    @property
    def image_mean(self) -> tuple[float, ...]:
        """What the processor took off pixel values from 0 to 1, by channel."""
        return tuple(getattr(self._images, "image_mean", None) or self.pixel_mean)

    @property
    def image_std(self) -> tuple[float, ...]:
        """What the processor divided them by."""
        return tuple(getattr(self._images, "image_std", None) or self.pixel_std)

    @property
    def _images(self) -> Any:
        return getattr(self.processor, "image_processor", None)

    @property
    def patches_of_token(self) -> int:
        return int(self.vision_tower.spatial_merge_size) ** 2

    @property
    def mergers(self) -> Sequence[nn.Module]:
        return [self.vision_tower.merger]

    def pack_joined(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        return values

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        patches = self.vision_tower.spatial_merge_size**2
        # the merger concatenates the channels of four patches; a signal of theirs is their mean
        return values.reshape(-1, patches, *values.shape[1:]).mean(1)

    def grid(self, call: VisionCall) -> Tensor:
        """Frames, height and width in patches of each picture or video, ``[pictures, 3]``."""
        grid: Tensor = call.arguments[
            "image_grid_thw" if call.modality == "image" else "video_grid_thw"
        ]
        return grid
