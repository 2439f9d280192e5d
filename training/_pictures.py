"""Batches of training pictures and clips, the same for every number of worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training._episodes import SIGHTS, Episode, episode
from training._labels import Target, target_of
from training._prompt import Sight, runs_of
from training._recipe import Kind, Recipe, Size, StageName, batch_of
from training._towers import Tower


@dataclass(frozen=True)
class Batch:
    """Conversations of one kind.

    Attributes:
        kind: of what they show.
        images: uint8 ``[S, frames, height, width, 3]`` as the family's processor resizes them: all
            pictures of all conversations, or all pairs of frames.
        target: what the pictures show; None where nothing here knows.
        seeds: of the episodes, from which the questions are made.
        size: of plain pictures.
        grid: rows and columns of visual tokens of a picture or a pair.
    """

    kind: Kind
    images: Tensor
    target: Target | None
    seeds: tuple[int, ...]
    size: Size
    grid: tuple[int, int]

    @property
    def sight(self) -> Sight:
        return SIGHTS[self.kind]

    def episodes(self) -> tuple[Episode, ...]:
        """What the conversations show, to ask about."""
        return tuple(episode(self.kind, seed, self.size) for seed in self.seeds)


@dataclass(frozen=True)
class Geometry:
    """What a family's processor and tower make of pictures; plain, so that workers can have it.

    Attributes:
        family: its name.
        pairs: whether two frames of a clip are one.
        shapes: size and grid after the processor, by kind and size.
    """

    family: str
    pairs: bool
    shapes: dict[tuple[bool, Size], tuple[Size, tuple[int, int]]]

    @classmethod
    def of(cls, recipe: Recipe, tower: Tower) -> Geometry:
        """The geometry of a family."""
        sizes = {*recipe.sizes, (336, 336), (224, 224)}
        found = {
            (clip, size): (tower.pixels(size, clip), tower.grid(size, clip))
            for size in sizes
            for clip in (False, True)
        }
        return cls(recipe.family, tower.pairs, found)


class Pictures(Dataset[Batch]):
    """Batch ``i`` of a stage.

    Args:
        geometry: of the family.
        recipe: says how many conversations of which kind and size.
        name: of the stage.
        kind_at: of a batch, in place of the recipe's.
        first_seed: in place of the stage's.
    """

    def __init__(
        self,
        geometry: Geometry,
        recipe: Recipe,
        name: StageName,
        kind_at: Callable[[int], Kind] | None = None,
        first_seed: int | None = None,
    ) -> None:
        self.geometry, self.recipe, self.name = geometry, recipe, name
        self.kind_at, self.stage = kind_at, recipe.stage(name)
        self.first_seed = self.stage.first_seed if first_seed is None else first_seed

    def __getitem__(self, index: int) -> Batch:
        recipe = self.recipe
        kind = self.kind_at(index) if self.kind_at else recipe.kind_at(self.name, index)
        size = recipe.sizes[index % len(recipe.sizes)] if kind == "plain" else (336, 336)
        shown = (224, 224) if kind in ("several", "clip") else size
        clip = kind == "clip"
        pixels, grid = self.geometry.shapes[clip, shown]
        runs = runs_of(SIGHTS[kind], grid, self.geometry.family)
        number = batch_of(self.stage, sum(t * rows * columns for t, rows, columns in runs))
        # each batch has seeds of its own, whatever its size
        start = self.first_seed + index * self.stage.pictures
        episodes = [episode(kind, seed, size) for seed in range(start, start + number)]
        pictures = [_resized(picture, pixels) for one in episodes for picture in one.draw()]
        pairs = clip and self.geometry.pairs
        images = torch.from_numpy(np.stack(pictures)).unflatten(0, (-1, 2 if pairs else 1))
        scenes = [scene for one in episodes for scene in one.scenes]
        target = target_of(scenes, grid, pairs) if scenes else None
        seeds = tuple(one.seed for one in episodes)
        return Batch(kind, images, target, seeds, size, grid)

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
