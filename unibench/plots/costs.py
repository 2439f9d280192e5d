"""Accuracy against what it costs, and the costs themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from unibench.errors import UsageError, unknown
from unibench.inference.row import columns
from unibench.plots.canvas import canvas, looks, title
from unibench.plots.lines import chosen, one_mode

COSTS = {
    "prefill_ms": "prefill, ms (vision and method in it)",
    "method_ms": "method, ms",
    "total_s": "whole cell, s",
    "tflops": "TFLOP of the prefill",
    "equiv_tokens": "visual tokens that a layer reads, mean",
    "kv_mib": "KV cache, MiB",
    "peak_mib": "peak memory, MiB",
}
columns(*COSTS)
# where a budget may stand: its distance from the point in printer's points, and its alignment
BESIDE = {
    (3, 3): ("left", "bottom"),
    (3, -3): ("left", "top"),
    (-3, 3): ("right", "bottom"),
    (-3, -3): ("right", "top"),
}


def front(points: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The points that no other beats in score at the same cost or less, cheapest first."""
    ordered = points.sort_values([cost, "score_100"], ascending=[True, False])
    best = ordered["score_100"].cummax().shift(fill_value=-np.inf)
    return ordered[ordered["score_100"] > best]


def pareto(frame: pd.DataFrame, task: str, cost: str = "prefill_ms") -> Figure:
    """Score against a cost, the front as a line; vanilla is a point like the others. Points bear
    their budgets where there is room, those of the front first.

    Raises:
        UsageError: no such cost, or it was not measured (memory is measured on a GPU).
    """
    if cost not in COSTS:
        raise unknown("cost", cost, COSTS)
    lines = one_mode(chosen(frame[frame["task"] == task])).dropna(subset=[cost, "score_100"])
    if lines.empty:
        raise UsageError(f"{cost} was not measured in these results")
    figure, (panel,) = canvas(width=5.6, height=4.0)
    for label, look in looks(lines["label"]).items():
        group = lines[lines["label"] == label]
        panel.scatter(
            group[cost],
            group["score_100"],
            label=label,
            s=24,
            color=look["color"],
            marker=look["marker"],
            zorder=3,
        )
        # the interval of the score; a cost has none here
        known = group.dropna(subset=["low", "high"])
        ends = [known["score_100"] - known["low"], known["high"] - known["score_100"]]
        panel.errorbar(
            known[cost],
            known["score_100"],
            yerr=[end.clip(lower=0) for end in ends],
            fmt="none",
            ecolor=look["color"],
            elinewidth=0.6,
            alpha=0.6,
        )
    held = front(lines, cost)
    panel.step(held[cost], held["score_100"], where="post", color="0.5", linewidth=1)
    panel.set(xlabel=COSTS[cost], ylabel="score")
    figure.legend(loc="outside lower center", ncols=3, fontsize=7)
    title(figure, f"{', '.join(lines['model'].unique())} on {task}", lines["model"])
    others = lines.drop(held.index).sort_values("score_100", ascending=False)
    _budgets(figure, panel, pd.concat([held, others]), cost)
    return figure


def _budgets(figure: Figure, panel: Axes, points: pd.DataFrame, cost: str) -> None:
    """Write budgets beside points, in this order; one that would cover another is left out."""
    figure.draw_without_rendering()  # only then it is known where things are
    taken: list[Bbox] = []
    for _, point in points.iterrows():
        for (right, up), (across, along) in BESIDE.items():
            text = panel.annotate(
                str(point["budget"]),
                (point[cost], point["score_100"]),
                fontsize=6,
                xytext=(right, up),
                textcoords="offset points",
                ha=across,
                va=along,
            )
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def bars(frame: pd.DataFrame, task: str) -> Figure:
    """Time of a sample by span, and memory, one bar per method and budget (STP, figure 3).

    Memory is the peak where it was measured, elsewhere the KV cache after the prefill, which is
    computed.

    Raises:
        UsageError: times were not measured.
    """
    lines = one_mode(chosen(frame[frame["task"] == task])).dropna(subset=["prefill_ms"])
    if lines.empty:
        raise UsageError("prefill_ms was not measured in these results (timing=false)")
    names = (
        lines["label"] + " " + lines["budget"].where(lines["method"] != "vanilla", "")
    ).str.strip()
    figure, (times, memory) = canvas(1, 2, width=2.4 + 0.35 * len(lines), height=3.8)
    rest = (lines["prefill_ms"] - lines["vision_ms"] - lines["method_ms"]).clip(lower=0)
    bottom = np.zeros(len(lines))
    for label, values, colour in (
        ("vision", lines["vision_ms"], "#56B4E9"),
        ("method", lines["method_ms"], "#D55E00"),
        ("language model", rest, "#0072B2"),
    ):
        times.bar(range(len(lines)), values, bottom=bottom, label=label, color=colour)
        bottom += values.to_numpy()
    times.set(ylabel="prefill, ms")
    times.legend(fontsize=7)
    peak = lines["peak_mib"].notna().all()
    memory.bar(range(len(lines)), lines["peak_mib" if peak else "kv_mib"], color="#009E73")
    memory.set(ylabel=COSTS["peak_mib" if peak else "kv_mib"])
    for panel in (times, memory):
        panel.set_xticks(range(len(lines)), names, rotation=60, ha="right", fontsize=7)
    title(figure, f"{', '.join(lines['model'].unique())} on {task}", lines["model"])
    return figure
