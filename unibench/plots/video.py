"""Kept tokens over the time of a video (the figure that papers on videos show)."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unibench import frame as frames
from unibench.errors import UsageError
from unibench.inference.over_time import kept_of
from unibench.plots.canvas import canvas, looks, title
from unibench.plots.lines import chosen


def over_time(frame: pd.DataFrame, task: str) -> Figure:
    """Share of a frame's tokens that enter the last decoder layer, by place in the video, a line
    for each method and budget; newlines are left out.

    Raises:
        UsageError: no cell has videos of a known layout.
    """
    lines = chosen(frame[frame["task"] == task])
    lines = lines[lines["method"] != "vanilla"]
    lines = lines.assign(name=lines["label"] + " " + lines["budget"])
    shares = {
        str(line["name"]): found
        for _, line in lines.iterrows()
        if len(found := mean_shares(line["folder"])) > 1
    }
    if not shares:
        raise UsageError(f"task={task}: no cell here has videos whose frames are known")
    figure, (panel,) = canvas(width=5.6, height=3.4)
    for name, look in looks(shares).items():
        places = range(1, len(shares[name]) + 1)
        panel.plot(places, shares[name], label=name, markersize=3, linewidth=1, **look)
    panel.set(xlabel="frame (Qwen: two together)", ylabel="share of its tokens kept")
    panel.set_ylim(bottom=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=3, fontsize=7)
    title(figure, f"{', '.join(lines['model'].unique())} on {task}", lines["model"])
    return figure


def mean_shares(folders: Iterable[str]) -> list[float]:
    """Mean share kept of each frame over the samples of some cells whose videos are of the
    commonest length.
    """
    found: list[list[float]] = []
    for folder in folders:
        for _, sample in frames.samples(folder).iterrows():
            # tiles of a picture are no frames
            kept = (
                kept_of(sample["layout"], sample["last"], int(sample["visual_tokens"]))
                if sample["frames"]
                else None
            )
            if kept is not None:
                pairs = zip(kept.grids, kept.sizes, strict=True)
                found.append([left / size for left, size in pairs])
    if not found:
        return []
    lengths = [len(shares) for shares in found]
    length = max(set(lengths), key=lambda one: (lengths.count(one), one))
    of_length = [shares for shares in found if len(shares) == length]
    return [fmean(column) for column in zip(*of_length, strict=True)]
