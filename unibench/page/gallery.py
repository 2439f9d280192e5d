"""Which tokens of a stored sample were kept, and where they lie on its pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from unibench.asked import asked
from unibench.errors import UsageError, unknown
from unibench.inference.record import Record, stored
from unibench.plots.overlay import View, drawn, heated, of_pictures, places
from unibench.pruning.layout import Box, Item, read
from unibench.pruning.record import shares_of, unpacked
from unibench.store import read_samples
from unibench.store.data import shown

TOKENS = 1_000_000  # of a sample, far more than any model reads


Show = Literal["kept", "scores"]


def views_of(folder: str, sample: str, show: Show = "kept") -> list[Image.Image]:
    """Views of what a cell kept of a sample's pictures, or of the scores behind its first cut;
    empty where it has stored no scores.

    Raises:
        UsageError: the cell has no such sample, or its pictures cannot be had.
    """
    place = Path(folder)
    records = {one.id: one for one in stored(place, read_samples(place)[0].values())}
    if sample not in records:
        raise unknown(f"sample of {folder}", sample, records)
    (source,) = asked(place, {sample}, len(records)).values()
    one = records[sample]
    if show == "scores" and one.scores is None:
        return []
    try:
        placed = laid([picture.size for picture in source.images], one)
        count = sum(length for length, _ in one.layout)
        if show == "scores" and one.scores is not None:
            return heated(source.images, placed, shares_of(one.scores, count))
        return drawn(source.images, placed, unpacked(one.last, count))
    except (ValueError, IndexError, RuntimeError) as error:
        raise _damaged(one, error) from None


def laid(sizes: Sequence[tuple[int, int]], record: Record) -> list[View]:
    """Where the tokens of a sample lie on its pictures, or on the frames of its video; the grids
    name tokens of the whole prompt.

    Args:
        sizes: width and height of the pictures.
        record: of the sample.

    Raises:
        UsageError: the record is none that a run writes.
    """
    try:
        items, boxes = _layout(record.layout), [_box(box) for box in record.seen]
        if record.frames:
            return _of_frames(sizes, record, items, boxes)
        found = []
        pictures = of_pictures(items, len(sizes))
        for number, (item, box) in enumerate(zip(pictures, boxes, strict=True)):
            views = places([sizes[number]], item, box)
            found += [_moved(view, number, item.start) for view in views]
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        raise _damaged(record, error) from None
    return found


def _of_frames(
    sizes: Sequence[tuple[int, int]], record: Record, items: tuple[Item, ...], boxes: list[Box]
) -> list[View]:
    """The grids of each frame of a video, or of the two that a Qwen reads together."""
    (numbers,) = record.frames
    if len(items) == 1:
        views = places([sizes[number] for number in numbers], items[0], boxes[0])
        return [_moved(view, numbers[view.picture], items[0].start) for view in views]
    found = []
    # a family whose frames are pictures has an item for each
    for number, item in zip(numbers, items, strict=True):
        views = places([sizes[number]], item, boxes[0])
        found += [_moved(view, number, item.start) for view in views]
    return found


def _moved(view: View, picture: int, start: int) -> View:
    """A view of a picture among others, its tokens counted from the first of the prompt."""
    grids = []
    for grid in view.grids:
        grids.append(replace(grid, tokens=tuple(start + token for token in grid.tokens)))
    return View(picture, tuple(grids))


def _damaged(record: Record, error: Exception) -> UsageError:
    return UsageError(f"sample {shown(record.id)}: its record is damaged: {error}")


def _layout(stored: Any) -> tuple[Item, ...]:
    """The items of a stored layout, of a size that can be drawn.

    Raises:
        ValueError, TypeError: it is no layout.
    """
    for length, parts in stored:
        grids = [(frames, height, width) for frames, height, width, *_ in parts]
        sizes = [length, *(side for grid in grids for side in grid)]
        if any(type(size) is not int or not 0 <= size <= TOKENS for size in sizes):
            raise ValueError("a layout of whole numbers is wanted")
        if sum(math.prod(grid) for grid in grids) > TOKENS or any(0 in grid for grid in grids):
            raise ValueError(f"grids of more than {TOKENS} tokens, or of none")
    if sum(length for length, _ in stored) > TOKENS:
        raise ValueError(f"more than {TOKENS} tokens")
    items = read(stored)
    if any(item.parts and sum(map(len, item.parts)) != len(item) for item in items):
        raise ValueError("grids and tokens differ in number")
    return items


def _box(stored: Any) -> Box:
    """A stored place in a picture.

    Raises:
        ValueError, TypeError: it is none.
    """
    left, top, right, bottom = (float(share) for share in stored)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError("a box inside the picture is wanted")
    return left, top, right, bottom
