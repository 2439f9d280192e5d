"""A method that reads more of a video, or a larger picture, against the unpruned model that reads
less of it in as many tokens: what the budget buys where it is fixed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from unibench.comparison.against import APART, CONTROLS, Line, in_common
from unibench.identity import resampled_setting_of
from unibench.stats.paired import Paired
from unibench.store.files import read_json

NEAR = 0.1  # counts of tokens that differ by no more than this share are one budget


@dataclass(frozen=True)
class MoreFrames:
    """A method on more frames or pixels beside the unpruned model on fewer.

    Attributes:
        whole: line of the unpruned model.
        pruned: line of the method.
        result: paired; ``first`` is the unpruned model, ``second`` the method.
    """

    whole: Line
    pruned: Line
    result: Paired


def more_frames(lines: pd.DataFrame) -> list[MoreFrames]:
    """Each method beside the unpruned model that read the same videos or pictures in fewer frames
    or pixels, and in as many tokens.

    Args:
        lines: of :func:`unibench.frame.whole`, seeds joined.

    Returns:
        Of several unpruned lines the one nearest in tokens, of those within a tenth of the
        method's. Lines whose samples are gone are left out.
    """
    found = []
    for group in _alike(lines):
        whole = [line for line in group if line["method"] == "vanilla"]
        for line in group:
            if line["method"] in (*CONTROLS, *APART):
                continue
            fewer = [one for one in whole if _is_less(one, line)]
            if not fewer:
                continue
            nearest = min(fewer, key=lambda one: abs(one["tokens_in"] - line["kept_mean"]))
            if (result := in_common(nearest, line)) is not None:
                found.append(MoreFrames(nearest, line, result))
    return found


def _alike(lines: pd.DataFrame) -> Iterator[Sequence[Line]]:
    """Groups of lines that frames and pixels alone tell apart, and what is compared."""
    settings = {
        setting: resampled_setting_of(read_json(Path(folder[0]) / "identity.json"))
        for setting, folder in zip(lines["setting"], lines["folder"], strict=True)
    }
    groups = defaultdict[tuple[str, ...], list[Line]](list)
    for line in lines.to_dict("records"):
        groups[settings[line["setting"]], str(line["metric"])].append(line)
    # one setting has the same frames in all of its lines
    yield from (group for group in groups.values() if len({one["setting"] for one in group}) > 1)


def _is_less(whole: Line, pruned: Line) -> bool:
    """Whether an unpruned line read less of the same than a pruned one, in as many tokens."""
    kept = float(pruned["kept_mean"])
    near = abs(float(whole["tokens_in"]) - kept) <= NEAR * kept
    return near and float(whole["tokens_in"]) < float(pruned["tokens_in"])
