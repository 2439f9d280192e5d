"""How the visual tokens of a prompt lie: pictures, their tiles or frames, the rows of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

Box = tuple[
    float, float, float, float
]  # left, top, right, bottom, as shares of a picture's width and height
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Part:
    """Tokens of a picture or video that lie in grids of one size, one grid after the other, in
    raster order.

    Attributes:
        frames: number of grids: frames, or tiles.
        height, width: of a grid, in tokens.
        newline: where tokens stand that show no patch but separate: ``"row"`` at the end of each
            row, ``"end"`` after the last one, ``""`` nowhere.
        overview: shows the whole picture, beside tiles that show it in detail.
        rows, columns: where a grid was stitched from tiles, the first row of each row of tiles and
            the first column of each column of tiles; empty elsewhere.
    """

    frames: int
    height: int
    width: int
    newline: str = ""
    overview: bool = False
    rows: tuple[int, ...] = field(default=(), compare=False)
    columns: tuple[int, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.separators)

    @property
    def separators(self) -> list[bool]:
        """For each token, whether it is one that separates."""
        row = [False] * self.width + [True] * (self.newline == "row")
        # one newline behind all frames, as LLaVA-OneVision ends a video with
        return row * self.height * self.frames + [True] * (self.newline == "end")


@dataclass(frozen=True)
class Item:
    """One image or video of a sample.

    Attributes:
        start, stop: its tokens, as a range of the sample's ORIGINAL visual tokens.
        parts: the grids they lie in, in order; empty where that is not known.
        video: number of the video that its grids are frames of; None for a picture. Several items
            share it where a family reads the frames of a video as pictures.
    """

    start: int
    stop: int
    parts: tuple[Part, ...] = ()
    video: int | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def separators(self) -> list[bool]:
        """For each token, whether it is one that separates."""
        return [mark for part in self.parts for mark in part.separators] or [False] * len(self)

    def tiles(self) -> list[Item]:
        """Each tile or frame as an item of its own, with the separators that follow it."""
        found, start = [], self.start
        # without a layout the item is one tile
        for part in self.parts or (Part(1, 1, len(self)),):
            for frame in range(1, part.frames + 1):
                # a video's separator goes with its last frame, so that the tiles add up to the item
                newline = "" if part.newline == "end" and frame < part.frames else part.newline
                tile = replace(part, frames=1, newline=newline)
                found.append(Item(start, start + len(tile), (tile,), self.video))
                start += len(tile)
        return found


def written(items: Sequence[Item]) -> list[Any]:
    """Items as JSON takes them, see :func:`read`."""
    # lengths, not bounds: items follow each other, and a stored line stays short
    return [[len(item), [_stored(part) for part in item.parts]] for item in items]


def _stored(part: Part) -> list[Any]:
    return [part.frames, part.height, part.width, part.newline, part.overview]


def read(layout: Sequence[Any]) -> tuple[Item, ...]:
    """The items that :func:`written` wrote: the length of each, and its parts.

    >>> read([[3, [[1, 1, 3, "", False]]], [2, []]])[1]
    Item(start=3, stop=5, parts=(), video=None)
    """
    items: list[Item] = []
    for length, parts in layout:
        start = items[-1].stop if items else 0
        items.append(Item(start, start + length, tuple(Part(*part) for part in parts)))
    return tuple(items)


def crop_seen(width: int, height: int, crop: tuple[int, int] | None, shortest: int | None) -> Box:
    """The part of a picture that is left after its shorter side became ``shortest`` pixels and the
    middle was cut out.

    Args:
        width, height: of the picture.
        crop: width and height of the cut in pixels, None without one.
        shortest: None where the picture was squeezed instead, which keeps all of it.
    """
    if crop is None or shortest is None:
        return WHOLE
    scale = shortest / min(width, height)
    shares = [
        min(1.0, side / (scale * length))
        for side, length in zip(crop, (width, height), strict=True)
    ]
    left, top = ((1 - share) / 2 for share in shares)
    return left, top, left + shares[0], top + shares[1]


@dataclass(frozen=True)
class Grid:
    """One tile, picture or frame: tokens in raster order. The separators of a picture are a grid of
    one column.

    Attributes:
        rows: ``[height * width]`` indices into ``ctx.visual``.
        height, width: in tokens.
        separators: whether these tokens show no patch (newline tokens).
        overview: whether it shows the whole picture, beside tiles that show it in detail.
        video: number of the video that it is a frame of; None for a picture.
    """

    rows: Tensor
    height: int
    width: int
    separators: bool = False
    overview: bool = False
    video: int | None = None

    def __len__(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Tiling:
    """A picture that was read whole and in tiles.

    Attributes:
        overview: indices into ``ctx.visual`` of what shows the whole picture.
        height, width: of the overview, in tokens.
        tiles: indices of each tile, from the top left; a tile that was padding has none.
        across: tiles in a row of them; 0 where that is not known.
    """

    overview: Tensor
    height: int
    width: int
    tiles: tuple[Tensor, ...]
    across: int


def tiling_of(item: Item, rows: Tensor, across: int) -> Tiling | None:
    """The tiling of a picture of which no token with a patch is gone; None where there is none.

    Args:
        item: the picture.
        rows: ``[n]`` of its tokens with a patch, in order.
        across: tiles in a row, where they were not stitched; 0 is unknown.
    """
    overview, height, width = rows[:0], 0, 0
    tiles: list[Tensor] = []
    for part in item.parts:
        size = part.height * part.width
        taken, rows = rows.tensor_split((part.frames * size,))
        if part.overview:
            overview, height, width = taken, part.height, part.width
        elif part.rows:
            across = len(part.columns)
            # rows and columns say where each tile begins; tensor_split wants inner bounds alone
            for band in taken.view(part.height, part.width).tensor_split(part.rows[1:]):
                cells = band.tensor_split(part.columns[1:], 1)
                tiles += [cell.flatten() for cell in cells]
        else:
            tiles += taken.split(size)
    return Tiling(overview, height, width, tuple(tiles), across) if height and tiles else None


def separators_of(items: Sequence[Item], tokens: Tensor) -> Tensor:
    """``[N]`` True on the original visual tokens ``[N]`` that show no patch."""
    marks = torch.zeros(max((item.stop for item in items), default=0), dtype=torch.bool)
    for item in items:
        marks[item.start : item.stop] = torch.tensor(item.separators)
    return (
        marks.to(tokens.device)[tokens]
        if len(marks)
        else torch.zeros_like(tokens, dtype=torch.bool)
    )


def grids_of(items: Sequence[Item], tokens: Tensor) -> list[Grid]:
    """The grids of some original visual tokens ``[N]``, rising; every token in one of them.

    Separators are a grid of their own, one column behind the grids of their picture. A picture of
    unknown layout has the grid nearest to a square that its tokens fill; where tokens with a patch
    are gone, what is left of a picture is one row.
    """
    found = []
    separators, rows = separators_of(items, tokens), torch.arange(len(tokens), device=tokens.device)
    for item in items:
        inside = (tokens >= item.start) & (tokens < item.stop)
        patches, rest = rows[inside & ~separators], rows[inside & separators]
        # a grid with holes is no grid: rows and columns of what is left mean nothing
        if len(patches) + sum(item.separators) == len(item):
            found += _whole(item, patches)
        elif len(patches):
            found.append(Grid(patches, 1, len(patches), video=item.video))
        if len(rest):
            found.append(Grid(rest, len(rest), 1, separators=True, video=item.video))
    return found


def _whole(item: Item, rows: Tensor) -> list[Grid]:
    """The grids of a picture of which no patch is gone, given the rows of its patches."""
    found = []
    for part in item.parts or (Part(1, *_nearly_square(len(item))),):
        taken, rows = rows.tensor_split((part.frames * part.height * part.width,))
        frames = taken.split(part.height * part.width)
        found += [
            Grid(frame, part.height, part.width, overview=part.overview, video=item.video)
            for frame in frames
        ]
    return found


def _nearly_square(count: int) -> tuple[int, int]:
    """The factors of a number that are closest to each other, the smaller one first.

    >>> _nearly_square(96), _nearly_square(7)
    ((8, 12), (1, 7))
    """
    height = (
        next(side for side in range(int(count**0.5), 0, -1) if count % side == 0) if count else 1
    )
    return height, count // height
