"""Methods on more frames or pixels beside the unpruned model on fewer, in as many tokens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pandas as pd

from unibench.comparison.more_frames import MoreFrames
from unibench.comparison.more_frames import more_frames as compared
from unibench.errors import UsageError
from unibench.frame import whole
from unibench.report.table import Block, Entry, Line, Table

MISSING = "–"
COLUMNS = (
    *("shown", "tokens", "score", "unpruned shown", "its tokens", "its score", "of it %"),
    *("difference", "95 %", "won", "lost", "prefill"),
)
REMARKS = (
    (
        "a fixed number of tokens, spent by the method on more frames or pixels and by the unpruned"
        " model on fewer: both rows keep as many (within 10 %). difference: method minus unpruned"
        " model, in points of 100, with its paired 95 % interval; won, lost: samples that the"
        " method scores higher, and lower."
    ),
    "prefill: of the method over that of the unpruned model; the tower reads all of what is shown.",
)


def more_frames(frame: pd.DataFrame) -> list[Table]:
    """A table with a block for each model and task.

    Args:
        frame: finished cells with seeds joined.

    Raises:
        UsageError: no method stands beside an unpruned model that saw less in as many tokens.
    """
    found = compared(whole(frame))
    if not found:
        raise UsageError(
            "no method stands beside the unpruned model on fewer frames or pixels in as many"
            " tokens: run task=synthvideo method=vidcom2 ratio=0.5 video.frames=8"
            " controls=standard, which adds the unpruned model on 4"
        )
    blocks = [
        Block(place, tuple(map(_line, part)))
        for place, part in groupby(sorted(found, key=_place), key=_place)
    ]
    title = "more frames or pixels, pruned, beside fewer in as many tokens"
    heads = ("method", "ratio")
    return [Table("more_frames", title, heads, COLUMNS, tuple(blocks), remarks=REMARKS)]


def _place(one: MoreFrames) -> str:
    return f"{one.pruned['model']} on {one.pruned['task']}"


def _line(one: MoreFrames) -> Line:
    result = one.result
    share = f"{100 * result.second / result.first:.1f}" if result.first else MISSING
    texts = (
        *_read(one.pruned, "kept_mean"),
        f"{100 * result.second:.1f}",
        *_read(one.whole, "tokens_in"),
        f"{100 * result.first:.1f}",
        share,
        f"{100 * result.difference:+.1f}",
        f"{100 * result.low:+.1f} to {100 * result.high:+.1f}",
        str(result.won),
        str(result.lost),
        _times(one),
    )
    name = f"{one.pruned['method']} {one.pruned['variant']}".strip()
    return Line((name, str(one.pruned["budget"])), tuple(map(Entry, texts)))


def _read(line: Any, tokens: str) -> Iterator[str]:
    """What was shown, and how many tokens of it were read."""
    frames, pixels = line["frames"], line["pixels"]
    shown = f"{frames} frames" if frames and "fps" not in frames else frames
    yield ", ".join(filter(None, (shown, "" if frames and pixels == "native" else pixels)))
    yield f"{line[tokens]:.1f}"


def _times(one: MoreFrames) -> str:
    """How often the unpruned model's prefill goes into the method's, where both were timed."""
    pruned, plain = float(one.pruned["prefill_ms"]), float(one.whole["prefill_ms"])
    return f"{pruned / plain:.2f}x" if pruned > 0 and plain > 0 else MISSING
