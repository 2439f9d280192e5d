"""Accuracy: against the ratio, by task, by ability, by size of model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unibench.errors import UsageError
from unibench.plots.canvas import canvas, looks, title
from unibench.plots.lines import ALL, chosen, one_mode, pruned


def by_ratio(frame: pd.DataFrame, task: str) -> Figure:
    """Score against ratio, one panel for each ability and one for all, with 95 % intervals and
    vanilla as a line.

    Args:
        frame: of one model, joined over seeds or not.
        task: which of its tasks.

    Raises:
        UsageError: nothing to show.
    """
    lines = one_mode(chosen(frame[frame["task"] == task], ability=None))
    look = looks(pruned(lines)["label"])
    abilities = [ALL, *sorted(set(lines["ability"]) - {ALL})]
    columns = min(3, len(abilities))
    figure, axes = canvas(-(-len(abilities) // columns), columns)
    for panel, ability in zip(axes, abilities, strict=False):
        part = lines[lines["ability"] == ability]
        _vanilla(panel, part)
        for label, group in part[part["method"] != "vanilla"].groupby("label"):
            _curve(panel, group.sort_values("ratio"), str(label), look[str(label)])
        panel.set(
            title=ability.replace("_", " "), xlabel="share of visual tokens removed", ylabel="score"
        )
    for panel in axes[len(abilities) :]:
        panel.remove()
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7
    )
    title(figure, f"{', '.join(lines['model'].unique())} on {task}", lines["model"])
    return figure


def _vanilla(panel: Axes, part: pd.DataFrame) -> None:
    whole = part[part["method"] == "vanilla"]
    if len(whole):
        panel.axhline(
            whole["score_100"].mean(), color="0.4", linestyle="--", linewidth=1, label="vanilla"
        )


def _curve(panel: Axes, group: pd.DataFrame, label: str, look: Mapping[str, Any]) -> None:
    low, high = group["score_100"] - group["low"], group["high"] - group["score_100"]
    spread = np.nan_to_num(np.array([low, high]).clip(min=0))
    panel.errorbar(
        group["ratio"],
        group["score_100"],
        yerr=spread,
        label=label,
        capsize=2,
        linewidth=1,
        markersize=4,
        **look,
    )


def heat_map(frame: pd.DataFrame, value: str = "retention_pct") -> Figure:
    """Method and budget by task: ``value`` in colour and in figures; empty cells are blank.

    Args:
        frame: of one model.
        value: ``retention_pct``, ``score_100`` or ``drop_pct``.
    """
    lines = pruned(one_mode(chosen(frame)))
    table = lines.assign(row=lines["label"] + " " + lines["budget"]).pivot_table(
        index="row", columns="task", values=value, sort=False
    )
    figure, (panel,) = canvas(
        width=1.6 + 0.75 * len(table.columns) + 1.4, height=1.4 + 0.28 * len(table)
    )
    picture = panel.imshow(
        table.to_numpy(), aspect="auto", cmap="RdYlGn_r" if value == "drop_pct" else "RdYlGn"
    )
    panel.set_xticks(range(len(table.columns)), table.columns, rotation=45, ha="right")
    panel.set_yticks(range(len(table)), table.index)
    panel.grid(visible=False)
    for (row, column), number in np.ndenumerate(table.to_numpy()):
        if np.isfinite(number):
            panel.text(column, row, f"{number:.1f}", ha="center", va="center", fontsize=7)
    figure.colorbar(picture, label=value.replace("_", " "))
    title(
        figure, f"{', '.join(lines['model'].unique())}: {value.replace('_', ' ')}", lines["model"]
    )
    return figure


def radar(frame: pd.DataFrame, budget: str, *, spokes: str = "task") -> Figure:
    """Share of vanilla's score that each method retains, one spoke per task or ability (IDPruner,
    figure 1).

    Args:
        frame: of one model.
        budget: as written, for example ``0.889``.
        spokes: ``"task"`` or ``"ability"``; abilities of several tasks are averaged.

    Raises:
        UsageError: fewer than three spokes, or nothing at this budget.
    """
    lines = pruned(one_mode(chosen(frame, ability=ALL if spokes == "task" else None)))
    lines = lines[(lines["budget"] == budget) & ((lines["ability"] != ALL) | (spokes == "task"))]
    table = lines.pivot_table(index="label", columns=spokes, values="retention_pct").dropna(axis=1)
    if table.shape[1] < 3:
        raise UsageError(
            f"a radar plot wants three {spokes} columns or more that all methods have; at budget"
            f" {budget} there are {table.shape[1]}"
        )
    figure, (panel,) = canvas(width=5.2, height=4.6, polar=True)
    turns = np.linspace(0, 2 * np.pi, len(table.columns), endpoint=False)
    look = looks(table.index)
    for label, values in table.iterrows():
        closed = np.append(values.to_numpy(), values.iloc[0])
        panel.plot(
            np.append(turns, turns[0]),
            closed,
            label=str(label),
            linewidth=1.2,
            markersize=4,
            **look[str(label)],
        )
    panel.set_xticks(turns, [str(name).replace("_", " ") for name in table.columns])
    panel.tick_params(pad=8)
    panel.set_ylim(
        max(0.0, float(table.min().min()) - 10), max(105.0, float(table.max().max()) + 5)
    )  # pruned may beat vanilla
    figure.legend(loc="outside lower center", ncols=3, fontsize=7)
    title(
        figure,
        f"{', '.join(lines['model'].unique())} at ratio {budget}: per cent of vanilla",
        lines["model"],
    )
    return figure


def size_table(frame: pd.DataFrame, order: Sequence[str], budget: str) -> pd.DataFrame:
    """Mean score of each method (lines) over the tasks that all have, by model (columns) in the
    order given.

    Args:
        frame: of several models.
        order: models, small to large.
        budget: as written; vanilla has its line whatever it is.

    Raises:
        UsageError: none of the models is among the results, or no task is finished for all.
    """
    lines = one_mode(chosen(frame))
    lines = lines[
        lines["model"].isin(order) & ((lines["budget"] == budget) | (lines["method"] == "vanilla"))
    ]
    there = [model for model in order if model in set(lines["model"])]
    if not there:
        raise UsageError(f"none of {', '.join(order)} is among these results")
    table = lines.pivot_table(index=["label", "model"], columns="task", values="score_100").dropna(
        axis=1
    )
    if table.empty:
        raise UsageError(f"no task is finished for every method and model: {', '.join(there)}")
    return table.mean(axis=1).unstack("model").reindex(columns=there)


def sizes(frame: pd.DataFrame, order: Sequence[str], budget: str) -> Figure:
    """The numbers of :func:`size_table` as a curve per method (UniPruneBench, figure 3)."""
    table = size_table(frame, order, budget)
    figure, (panel,) = canvas(width=5.5)
    look = looks(table.index)
    for label, values in table.iterrows():
        panel.plot(
            table.columns, values, label=str(label), linewidth=1, markersize=5, **look[str(label)]
        )
    panel.set(ylabel="mean score over tasks")
    figure.legend(loc="outside lower center", ncols=3, fontsize=7)
    title(figure, f"ratio {budget} by model", table.columns)
    return figure
