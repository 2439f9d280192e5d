"""Batches of training pictures, the same for every number of worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training._labels import labels
from training._recipe import Size
from unibench.tasks.synthvqa._draw import draw
from unibench.tasks.synthvqa._scene import Scene, make_scene


@dataclass(frozen=True)
class Batch:
    """Pictures of one size.

    Attributes:
        images: uint8 ``[B, height, width, 3]`` as the family's processor resizes them.
        labels: ``[B, fields, tokens]``, see :mod:`training._labels`.
        scenes: what they show.
        grid: rows and columns of visual tokens.
    """

    images: Tensor
    labels: Tensor
    scenes: tuple[Scene, ...]
    grid: tuple[int, int]


@dataclass(frozen=True)
class Shape:
    """A picture size, what the processor makes of it, and the grid of tokens that results."""

    size: Size
    pixels: Size
    grid: tuple[int, int]


class Pictures(Dataset[Batch]):
    """Batch ``i`` of a stage."""

    def __init__(self, shapes: tuple[Shape, ...], number: int, first_seed: int) -> None:
        self.shapes, self.number, self.first_seed = shapes, number, first_seed

    def __getitem__(self, index: int) -> Batch:
        shape, start = self.shapes[index % len(self.shapes)], self.first_seed + index * self.number
        scenes = tuple(make_scene(seed, shape.size) for seed in range(start, start + self.number))
        images = np.stack([_resized(draw(scene), shape.pixels) for scene in scenes])
        targets = np.stack([labels(scene, shape.grid) for scene in scenes])
        return Batch(torch.from_numpy(images), torch.from_numpy(targets), scenes, shape.grid)

    def batches(self, start: int, stop: int, workers: int) -> Iterator[Batch]:
        """Batches ``start`` to ``stop`` in order, drawn by worker processes if there are any."""
        order: list[int] = list(range(start, stop))
        return iter(
            DataLoader(
                self,
                batch_size=None,
                sampler=order,
                num_workers=workers,
                prefetch_factor=4 if workers else None,
            )
        )


def _resized(image: Image.Image, pixels: Size) -> np.ndarray:
    if image.size != pixels:
        image = image.resize(pixels, Image.Resampling.BICUBIC)
    return np.array(image)
