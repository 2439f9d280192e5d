"""Kept tokens on the picture: what was dropped is darkened (IDPruner, figure 4; UniPruneBench,
figure 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from PIL import Image, ImageDraw
from torch import Tensor

from unibench.errors import UsageError
from unibench.pruning.layout import WHOLE, Box, Item, Part

SHADE = (12, 12, 24, 190)
GAP = 8
SIDE = 336  # pixels of the longer side of a view
ABREAST = 5  # columns of views beside each other
COLD, WARM = (24, 32, 96), (255, 196, 0)  # of the lowest and the highest number of a heat map
HEAT = 170  # of 255, how much a heat map hides of its picture


@dataclass(frozen=True)
class Grid:
    """Tokens that lie as a grid on a picture.

    Attributes:
        tokens: of the item, row by row; separators of rows have no place and are left out.
        height, width: of the grid.
        box: the part of the picture that it covers.
    """

    tokens: tuple[int, ...]
    height: int
    width: int
    box: Box


@dataclass(frozen=True)
class View:
    """A picture, or a frame of a video, with the grids that lie on it.

    Attributes:
        picture: index among the pictures.
        grids: tiles, or one grid; empty where nothing can be placed.
    """

    picture: int
    grids: tuple[Grid, ...] = ()


def places(sizes: Sequence[tuple[int, int]], item: Item, seen: Box = WHOLE) -> list[View]:
    """Where the tokens of a picture or video lie.

    Args:
        sizes: width and height of the picture; of a video those of its frames.
        item: the layout of its tokens. Without one nothing can be placed.
        seen: the part of the picture that the processor hands on (a centre crop sees less than
            all).

    Returns:
        One view per frame of a video; of a picture one of its tiles together, and one of the
        overview.
    """
    found, start = [], 0
    for part in item.parts:
        grids = _grids(part, start)
        start += len(part)
        if len(sizes) > 1:
            found += [
                View(
                    number * len(sizes) // part.frames,
                    (Grid(tokens, part.height, part.width, seen),),
                )
                for number, tokens in enumerate(grids)
            ]
        else:
            boxes = [_within(seen, box) for box in tiles(part.frames, sizes[0][0] / sizes[0][1])]
            laid = zip(grids, boxes, strict=True)
            found.append(
                View(0, tuple(Grid(tokens, part.height, part.width, box) for tokens, box in laid))
            )
    return found or [View(number) for number in range(len(sizes))]


def views(
    pictures: Sequence[Image.Image], item: Item, kept: Tensor, seen: Box = WHOLE
) -> list[Image.Image]:
    """A picture or video as its tokens see it, dropped places dark; the pictures whole where
    nothing can be placed.

    Args:
        pictures: the picture; of a video its frames.
        item: the layout of its tokens.
        kept: ``[len(item)]`` mask.
        seen: as :func:`places` takes it.
    """
    return drawn(pictures, places([picture.size for picture in pictures], item, seen), kept)


def drawn(
    pictures: Sequence[Image.Image], placed: Sequence[View], kept: Tensor
) -> list[Image.Image]:
    """Each view with its dropped places dark.

    Args:
        pictures: that the views are of.
        placed: the views.
        kept: mask of the tokens that their grids name.
    """
    found = []
    for view in placed:
        picture = _sized(pictures[view.picture])
        found.append(_shaded(picture, view.grids, kept) if view.grids else picture)
    return found


def heated(
    pictures: Sequence[Image.Image], placed: Sequence[View], shares: Tensor
) -> list[Image.Image]:
    """Each view under a colour for each token, from dark blue (0) to yellow (1).

    Args:
        pictures: that the views are of.
        placed: the views.
        shares: of the tokens that their grids name; NaN stays clear.
    """
    values, found = shares.clamp(0, 1).tolist(), []
    for view in placed:
        picture = _sized(pictures[view.picture])
        colours = Image.new("RGBA", picture.size, (0, 0, 0, 0))
        draw = ImageDraw.Draw(colours)
        for token, (left, top, right, bottom) in _cells(view.grids, picture.size):
            value = values[token]
            if value == value:
                pairs = zip(COLD, WARM, strict=True)
                colour = tuple(round(cold + value * (warm - cold)) for cold, warm in pairs)
                draw.rectangle((left, top, right - 1, bottom - 1), fill=(*colour, HEAT))
        found.append(Image.alpha_composite(picture.convert("RGBA"), colours).convert("RGB"))
    return found


def of_pictures(items: Sequence[Item], pictures: int) -> tuple[Item, ...]:
    """One item for each picture; where text stands between the tiles of a picture (SmolVLM), they
    were items of their own.

    Raises:
        UsageError: it cannot be told which tiles are whose.
    """
    if len(items) == pictures:
        return tuple(items)
    if pictures != 1 or any(len(item.parts) != 1 for item in items):
        raise UsageError(
            f"it cannot be told which of {len(items)} tiles belong to which of {pictures} pictures"
        )
    (part,) = items[-1].parts  # the last one shows the whole picture
    return (
        Item(
            items[0].start,
            items[-1].stop,
            (replace(part, frames=len(items) - 1), replace(part, overview=True)),
        ),
    )


def tiles(count: int, aspect: float) -> list[Box]:
    """Places of ``count`` equal tiles in raster order, in the arrangement nearest to the picture's
    shape.

    As InternVL cuts a picture: of all ways to write the number as columns times rows, the one whose
    ratio lies nearest to width / height.
    """
    pairs = [(columns, count // columns) for columns in range(1, count + 1) if count % columns == 0]
    columns, rows = min(pairs, key=lambda pair: abs(pair[0] / pair[1] - aspect))
    return [
        (x / columns, y / rows, (x + 1) / columns, (y + 1) / rows)
        for y in range(rows)
        for x in range(columns)
    ]


def side_by_side(columns: Mapping[str, Sequence[Image.Image]]) -> Image.Image:
    """A column of views for each method, under its name; some columns beside each other, and the
    others in rows below.
    """
    width = max(view.width for column in columns.values() for view in column)
    height = 16 + max(sum(view.height + GAP for view in column) for column in columns.values())
    rows, abreast = ceil(len(columns) / ABREAST), min(len(columns), ABREAST)
    sheet = Image.new("RGB", (abreast * (width + GAP) - GAP, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, column) in enumerate(columns.items()):
        left, top = number % ABREAST * (width + GAP), number // ABREAST * height + 16
        draw.text((left, top - 14), name, fill="black")
        for view in column:
            sheet.paste(view, (left, top))
            top += view.height + GAP
    return sheet


def film_strip(rows: Mapping[str, Sequence[Image.Image]], side: int = 96) -> Image.Image:
    """A row of frames for each method, under its name, time from left to right.

    Args:
        rows: views of the frames by method.
        side: pixels of the longer side of a frame.
    """
    small = {name: [_fitted(view, side) for view in shown] for name, shown in rows.items()}
    height = max(view.height for shown in small.values() for view in shown)
    width = max(sum(view.width + 2 for view in shown) for shown in small.values())
    sheet = Image.new("RGB", (width, len(rows) * (height + 16 + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, shown) in enumerate(small.items()):
        left, top = 0, number * (height + 16 + GAP)
        draw.text((0, top + 2), name, fill="black")
        for view in shown:
            sheet.paste(view, (left, top + 16))
            left += view.width + 2
    return sheet


def _fitted(view: Image.Image, side: int) -> Image.Image:
    """A copy whose longer side is ``side``."""
    found = view.copy()
    found.thumbnail((side, side))
    return found


def _grids(part: Part, start: int) -> list[tuple[int, ...]]:
    """The tokens of each grid of a part whose first token is ``start``, without its separators."""
    tokens = [start + place for place, mark in enumerate(part.separators) if not mark]
    size = part.height * part.width
    return [tuple(tokens[frame * size : (frame + 1) * size]) for frame in range(part.frames)]


def _within(outer: Box, inner: Box) -> Box:
    """A place inside a box as a place of the picture."""
    left, top, right, bottom = outer
    width, height = right - left, bottom - top
    return (
        left + inner[0] * width,
        top + inner[1] * height,
        left + inner[2] * width,
        top + inner[3] * height,
    )


def _sized(picture: Image.Image) -> Image.Image:
    scale = SIDE / max(picture.size)
    return picture.convert("RGB").resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    )


def _shaded(picture: Image.Image, grids: Sequence[Grid], kept: Tensor) -> Image.Image:
    """Everything dark but the kept cells of the grids."""
    shade = Image.new("RGBA", picture.size, SHADE)
    draw = ImageDraw.Draw(shade)
    chosen = kept.tolist()
    for token, (left, top, right, bottom) in _cells(grids, picture.size):
        if chosen[token]:
            draw.rectangle((left, top, right - 1, bottom - 1), fill=(0, 0, 0, 0))
    return Image.alpha_composite(picture.convert("RGBA"), shade).convert("RGB")


def _cells(
    grids: Sequence[Grid], size: tuple[int, int]
) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    """The tokens of grids, each with the pixels of its place in a picture of this size."""
    wide, high = size
    for grid in grids:
        for number, token in enumerate(grid.tokens):
            row, column = divmod(number, grid.width)
            cell = (
                column / grid.width, row / grid.height,
                (column + 1) / grid.width, (row + 1) / grid.height,
            )  # fmt: skip
            left, top, right, bottom = _within(grid.box, cell)
            yield (
                token,
                (round(left * wide), round(top * high), round(right * wide), round(bottom * high)),
            )
