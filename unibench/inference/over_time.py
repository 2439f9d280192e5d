"""What stayed of videos: tokens of each frame, and newline tokens apart from them.

Nothing at the top imports numpy: a plan reads rows too.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from unibench.inference.record import Record


@dataclass(frozen=True)
class Kept:
    """The tokens of one sample that entered the last decoder layer.

    Attributes:
        grids: of each frame (of the two that a Qwen reads together), those with a patch.
        sizes: tokens with a patch of each, before pruning.
        newlines: tokens that separate rows, frames or videos.
        newlines_before: the same before pruning.
    """

    grids: tuple[int, ...]
    sizes: tuple[int, ...]
    newlines: int
    newlines_before: int


def kept_of(layout: Sequence[Any], last: str, count: int) -> Kept | None:
    """What stayed of a sample; None where the layout of its tokens is not known, or a control
    changed them.

    Args:
        layout, last: columns of its record.
        count: its visual tokens before pruning.
    """
    if not last or not layout or not all(parts for _, parts in layout):
        return None
    import numpy as np

    packed = np.frombuffer(base64.b64decode(last), dtype=np.uint8)
    left = np.unpackbits(packed, count=count)
    grids, sizes = list[int](), list[int]()
    newlines, before, start = 0, 0, 0
    for _, parts in layout:
        for frames, height, width, newline, *_ in parts:
            row = width + (newline == "row")
            for _ in range(frames):
                grid = left[start : start + height * row].reshape(height, row)
                grids.append(int(grid[:, :width].sum()))
                sizes.append(height * width)
                newlines += int(grid[:, width:].sum())
                before += height * (row - width)
                start += height * row
            if newline == "end":
                newlines, before, start = newlines + int(left[start]), before + 1, start + 1
    return Kept(tuple(grids), tuple(sizes), newlines, before)


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Means over samples for a row: visual tokens that enter the language model, of a layer on
    average, and that leave it, all with newlines; and newlines alone.
    """
    kept = (kept_of(record.layout, record.last, record.visual_tokens) for record in records)
    found = [one for one in kept if one is not None]
    return {
        "entering": fmean(record.processed[0] for record in records),
        "layer_mean": fmean(fmean(record.processed) for record in records),
        "leaving": fmean(record.kept for record in records),
        "newlines": fmean(one.newlines_before for one in found) if found else None,
        "newlines_left": fmean(one.newlines for one in found) if found else None,
    }
