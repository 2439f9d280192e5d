"""Where the kept tokens lie in their pictures.

Masks are those of records (``last``), layouts those of records (``layout``); see
:func:`unibench.pruning.record.packed` and :func:`unibench.pruning.layout.written`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from unibench.diagnostics.diagnosis import Diagnosis

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
Box = tuple[float, ...]  # left, top, right, bottom, as shares of a picture's sides


def mask(last: str, count: int) -> Mask:
    """``[count]`` True on the tokens that a record says entered the last decoder layer."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(last), dtype=np.uint8), count=count)
    return bits.astype(bool)


@lru_cache(maxsize=64)  # the pictures of a task have few sizes
def grids(layout: tuple[Any, ...]) -> tuple[tuple[Places, ...], ...]:
    """For each picture or video its grids ``[frames, height, width]``: which visual token of the
    prompt lies there. Tokens that separate lie nowhere; a picture of unknown layout has no grid.

    >>> grids(((7, ((1, 2, 3, "end", False),)),))[0][0].tolist()
    [[[0, 1, 2], [3, 4, 5]]]
    """
    found, start = [], 0
    for length, parts in layout:
        own, first = [], start
        for frames, height, width, newline, *_ in parts:
            # a token that separates stands at the end of each row, or once behind all grids
            wide = width + (newline == "row")
            places = np.arange(frames * height * wide).reshape(frames, height, wide)
            own.append(first + places[:, :, :width])
            first += places.size + (newline == "end")
        found.append(tuple(own))
        start += length
    return tuple(found)


def diagnosis(
    last: str,
    count: int,
    layout: tuple[Any, ...],
    seen: Sequence[Box] = (),
    boxes: Sequence[Sequence[Box]] = (),
    **more: float | None,
) -> Diagnosis:
    """The diagnosis of a record's choice.

    Args:
        last, count, layout, seen: as the record has them; ``last`` is empty where no token is one
            of the task's picture.
        boxes: of each picture, what the question is about.
        **more: what the engine has measured.
    """
    if not last:
        return Diagnosis(**more)
    kept = mask(last, count)
    return Diagnosis(
        coverage=coverage(kept, layout),
        edge=edge(kept, layout),
        centre=centre(kept, layout),
        boxed=boxed(kept, layout, seen, boxes) if any(boxes) else None,
        **more,
    )


def coverage(kept: Mask, layout: tuple[Any, ...]) -> float | None:
    """Share of the patches that are kept or touch one that is, at a side or a corner; None where no
    grid is known. Evenly spread tokens cover all of a picture from a ninth of them on.
    """
    near = total = 0
    for places in _each(layout):
        own = kept[places]
        # rows first, then columns: together the eight neighbours
        down = own.copy()
        down[:, 1:] |= own[:, :-1]
        down[:, :-1] |= own[:, 1:]
        across = down.copy()
        across[:, :, 1:] |= down[:, :, :-1]
        across[:, :, :-1] |= down[:, :, 1:]
        near, total = near + int(across.sum()), total + across.size
    return near / total if total else None


def edge(kept: Mask, layout: tuple[Any, ...]) -> float | None:
    """Share of the kept patches that lie in the outermost rows and columns of their grid; None
    where none is kept.
    """
    return _share(kept, layout, _outermost)


def centre(kept: Mask, layout: tuple[Any, ...]) -> float | None:
    """Share of the kept patches that lie in the middle half of the rows and of the columns."""
    return _share(kept, layout, _middle)


def boxed(
    kept: Mask,
    layout: tuple[Any, ...],
    seen: Sequence[Box],
    boxes: Sequence[Sequence[Box]],
) -> float | None:
    """Share of the patches with their middle in a box that are kept; None without such a patch.

    Args:
        kept: of a prompt.
        layout: of the prompt; pictures of one grid, others count nothing.
        seen: the part of each picture that the processor hands on.
        boxes: of each picture, as shares of its sides.
    """
    inside = total = 0
    for own, part, wanted in zip(grids(layout), seen, boxes, strict=False):
        if len(own) != 1 or own[0].shape[0] != 1:
            continue  # tiles do not say which part of the picture they show
        within = _within(own[0].shape[1], own[0].shape[2], part, wanted)
        inside, total = inside + int(kept[own[0][0]][within].sum()), total + int(within.sum())
    return inside / total if total else None


def jaccard(one: Mask, other: Mask) -> float:
    """Tokens that both keep among those that either does; 1 where neither keeps any.

    >>> jaccard(np.array([True, True, False]), np.array([True, False, False]))
    0.5
    """
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


def _each(layout: tuple[Any, ...]) -> list[Places]:
    return [places for own in grids(layout) for places in own]


def _share(kept: Mask, layout: tuple[Any, ...], where: Any) -> float | None:
    inside = total = 0
    for places in _each(layout):
        own = kept[places]
        inside += int((own & where(*places.shape[1:])).sum())
        total += int(own.sum())
    return inside / total if total else None


@lru_cache(maxsize=64)
def _outermost(height: int, width: int) -> Mask:
    found = np.ones((height, width), dtype=bool)
    found[1:-1, 1:-1] = False
    return found


@lru_cache(maxsize=64)
def _middle(height: int, width: int) -> Mask:
    # by the middles of the patches, so that odd sides have a middle half too
    down, across = ((np.arange(side) + 0.5) / side for side in (height, width))
    return np.outer(abs(down - 0.5) < 0.25, abs(across - 0.5) < 0.25)


def _within(height: int, width: int, part: Box, boxes: Sequence[Box]) -> Mask:
    """``[height, width]`` True on the patches with their middle in a box."""
    left, top, right, bottom = part
    down = top + (np.arange(height) + 0.5) / height * (bottom - top)
    across = left + (np.arange(width) + 0.5) / width * (right - left)
    found = np.zeros((height, width), dtype=bool)
    for x1, y1, x2, y2 in boxes:
        found |= np.outer((y1 <= down) & (down < y2), (x1 <= across) & (across < x2))
    return found
