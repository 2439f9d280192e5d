"""Adaptive pooling of the token grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from unibench import Method, Selection, StageContext
from unibench.ops import coarser_grid, pairs, shares, spaced
from unibench.pruning.layout import Grid


@dataclass(frozen=True)
class Pooling(Method):
    """Keeps one mean (or maximum) for each cell of a coarser grid.

    Merging by place alone: the floor for methods that merge by content.

    Paper: UniPruneBench, arXiv 2511.02650 (in the code, not in the main tables).
    Code: TianfanPeng/VLMUniPruneBench@f93768fc methods/Pool_PreLLM.py.
    Cost: O(N D).
    Deviations: the official code makes 4, 16 or 25 cells per picture whatever the ratio; here the
        grid is the largest that the picture's share of the budget allows, as close to its shape as
        possible, and the row states the real number (never more than ``keep``, but at least one
        cell per picture). A cell takes the position of its central token. ``cells=square`` is the
        official shape.

    Attributes:
        mode: avg or max.
        cells: aspect (the shape of the picture) or square.
    """

    mode: Literal["avg", "max"] = "avg"
    cells: Literal["aspect", "square"] = "aspect"
    adaptive: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    category = "ViT only"
    aim = "diversity"

    def select(self, ctx: StageContext) -> Selection:
        features, kept, values = ctx.visual_hidden, [], []
        cells: list[tuple[Grid, int, int]] = []
        grids = ctx.grids()
        # separators are a grid of one column and have their share as well
        parts = shares(ctx.keep, [len(grid) for grid in grids])
        pool = adaptive_avg_pool2d if self.mode == "avg" else adaptive_max_pool2d
        for grid, part in zip(grids, parts, strict=True):
            picture = features[grid.rows].T.unflatten(1, (grid.height, grid.width))
            rows, columns = self._shape(grid.height, grid.width, max(1, part))
            values.append(pool(picture, (rows, columns)).flatten(1).T)
            kept.append(grid.rows[_places(grid.height, grid.width, rows, columns)])
            cells.append((grid, rows, columns))
        return Selection(torch.cat(kept), torch.cat(values), members=partial(_members, cells))

    def _shape(self, height: int, width: int, most: int) -> tuple[int, int]:
        """Rows and columns of the coarser grid, at most ``most`` cells."""
        if self.cells == "square":
            side = int(most**0.5)
            return side, side
        return coarser_grid(height, width, most)


def _places(height: int, width: int, rows: int, columns: int) -> list[int]:
    """A token for each cell, rising: its central one, or evenly spaced ones where cells share
    tokens.

    >>> _places(4, 6, 2, 3)
    [0, 2, 4, 12, 14, 16]
    """
    if rows > height or columns > width:
        return spaced(rows * columns, height * width)
    return [
        row * width + column
        for row in _centres(height, rows)
        for column in _centres(width, columns)
    ]


def _members(cells: Sequence[tuple[Grid, int, int]]) -> Tensor:
    """Which tokens each cell covers, of grids with so many rows and columns of cells."""
    found, first = [], 0
    for grid, rows, columns in cells:
        down, across = _covered(grid.height, rows), _covered(grid.width, columns)
        inside = (down[:, None, :, None] & across[None, :, None]).flatten(2).flatten(0, 1)
        found.append(pairs(inside.to(grid.rows.device), grid.rows, first=first))
        first += rows * columns
    return torch.cat(found, 1)


def _covered(length: int, cells: int) -> Tensor:
    """``[cells, length]`` places of each cell along one side, as torch's pooling has them."""
    cell, place = torch.arange(cells)[:, None], torch.arange(length)[None]
    # adaptive pooling takes floor and ceiling, so cells overlap where sides do not divide
    return (place >= cell * length // cells) & (place < -(-(cell + 1) * length // cells))


def _centres(length: int, cells: int) -> list[int]:
    """The middle of each pooling cell; strictly rising, as there are no more cells than places."""
    return [(i * length // cells + -(-(i + 1) * length // cells) - 1) // 2 for i in range(cells)]
