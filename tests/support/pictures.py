"""Pixels and placeholder tokens of the tiny architectures, made by hand as the processors make
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from transformers.models.llava_next.modeling_llava_next import (
    get_anyres_image_grid_shape,
    unpad_image,
)

from tests.support.architectures import IMAGE, PINPOINTS, VIDEO, VISION_END, VISION_START

Spans = list[list[int]]  # token ids of each picture
Made = tuple[dict[str, Tensor], Spans]
FRAMES = 3


def _qwen_pictures(seed: int, images: int, g: torch.Generator) -> Made:
    grids = [[1, 8, 12], [1, 6, 10], [1, 10, 8]]
    grid = torch.tensor([grids[(seed + i) % 3] for i in range(images)])
    pixels = torch.randn(int(grid.prod(-1).sum()), 3 * 2 * 14 * 14, generator=g)
    spans = [[VISION_START] + [IMAGE] * int(one.prod() // 4) + [VISION_END] for one in grid]
    return {"pixel_values": pixels, "image_grid_thw": grid}, spans


def _qwen_video(seed: int, g: torch.Generator) -> Made:
    grid = torch.tensor([[FRAMES, 4 + 2 * (seed % 2), 6]])
    pixels = torch.randn(int(grid.prod()), 3 * 2 * 14 * 14, generator=g)
    span = [VISION_START] + [VIDEO] * int(grid.prod() // 4) + [VISION_END]
    return {"pixel_values_videos": pixels, "video_grid_thw": grid}, [span]


def _qwen3_video(seed: int, g: torch.Generator) -> Made:
    pixels, (span,) = _qwen_video(seed, g)
    frame = [VISION_START] + [VIDEO] * (span.count(VIDEO) // FRAMES) + [VISION_END]
    return pixels, [
        [token for number in range(FRAMES) for token in (20 + number, *frame)]
    ]  # a time stamp before each frame


def _llava_pictures(seed: int, images: int, g: torch.Generator) -> Made:
    return {"pixel_values": torch.randn(images, 3, 56, 56, generator=g)}, [
        [IMAGE] * 16 for _ in range(images)
    ]


def anyres_size(seed: int) -> tuple[int, int]:
    """Height and width of a picture."""
    return [(60, 100), (100, 50), (110, 100)][seed % 3]


def stitched_shape(size: tuple[int, int], most: int | None) -> tuple[int, int]:
    """Rows and columns of a picture's stitched grid; ``most`` tiles, from which on it is scaled
    down.
    """
    tall, wide = (4 * tiles for tiles in get_anyres_image_grid_shape(size, PINPOINTS, 56))
    rows, columns = unpad_image(torch.zeros(1, tall, wide), torch.tensor(size)).shape[1:]
    ratio = math.sqrt(rows * columns / (most * 16)) if most else 1.0
    return (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else (rows, columns)


def _anyres(most: int | None) -> Callable[[int, int, torch.Generator], Made]:
    def pictures(seed: int, images: int, g: torch.Generator) -> Made:
        sizes = [anyres_size(seed + i) for i in range(images)]
        shapes = [stitched_shape(size, most) for size in sizes]
        tiles = [1 + math.prod(get_anyres_image_grid_shape(size, PINPOINTS, 56)) for size in sizes]
        pixels = torch.zeros(images, max(tiles), 3, 56, 56)
        for row, count in zip(pixels, tiles, strict=True):
            row[:count] = torch.randn(count, 3, 56, 56, generator=g)
        return {"pixel_values": pixels, "image_sizes": torch.tensor(sizes)}, [
            [IMAGE] * (16 + h * (w + 1)) for h, w in shapes
        ]

    return pictures


def _onevision_pictures(seed: int, images: int, g: torch.Generator) -> Made:
    pixels, spans = _anyres(2)(seed, images, g)
    if images > 1:  # several pictures of a prompt are one tile each, with one newline token
        pixels["pixel_values"] = pixels["pixel_values"][:, :1]
        spans = [[IMAGE] * 17 for _ in spans]
    return {**pixels, "batch_num_images": torch.tensor([images])}, spans


def _pooled_video(separators: int) -> Callable[[int, torch.Generator], Made]:
    def video(seed: int, g: torch.Generator) -> Made:
        return {"pixel_values_videos": torch.randn(1, FRAMES, 3, 56, 56, generator=g)}, [
            [VIDEO] * (FRAMES * 4 + separators)
        ]

    return video


def _internvl_tiles(counts: list[int], g: torch.Generator) -> Made:
    spans = [[VISION_START] + [IMAGE] * (16 * count) + [VISION_END] for count in counts]
    return {"pixel_values": torch.randn(sum(counts), 3, 112, 112, generator=g)}, spans


def _internvl_pictures(seed: int, images: int, g: torch.Generator) -> Made:
    return _internvl_tiles([[3, 2, 4][(seed + i) % 3] for i in range(images)], g)


def _internvl_video(seed: int, g: torch.Generator) -> Made:
    return _internvl_tiles([1] * (FRAMES + seed % 2), g)  # frames are pictures of one tile


def _smolvlm_pictures(seed: int, images: int, g: torch.Generator) -> Made:
    tiles = [[2, 1, 3][(seed + i) % 3] for i in range(images)]
    spans = [
        [token for tile in range(count) for token in [30 + tile] + [IMAGE] * 16] for count in tiles
    ]
    return {"pixel_values": torch.randn(1, sum(tiles), 3, 112, 112, generator=g)}, spans


PICTURES: dict[str, Callable[[int, int, torch.Generator], Made]] = {
    "qwen2_5_vl": _qwen_pictures,
    "qwen2_vl": _qwen_pictures,
    "qwen3_vl": _qwen_pictures,
    "llava": _llava_pictures,
    "llava_onevision_1_5": _qwen_pictures,
    "llava_next": _anyres(None),
    "llava_next_video": _anyres(None),
    "llava_onevision": _onevision_pictures,
    "internvl": _internvl_pictures,
    "smolvlm": _smolvlm_pictures,
}
VIDEOS: dict[str, Callable[[int, torch.Generator], Made]] = {
    "qwen2_5_vl": _qwen_video,
    "qwen2_vl": _qwen_video,
    "qwen3_vl": _qwen3_video,
    "llava_onevision_1_5": _qwen_video,
    "llava_next_video": _pooled_video(0),
    "llava_onevision": _pooled_video(1),
    "internvl": _internvl_video,
}
