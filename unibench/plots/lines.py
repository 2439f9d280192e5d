"""Choosing the lines of a frame that a plot shows, and how a method is called in it."""

from __future__ import annotations

import pandas as pd

from unibench.errors import UsageError
from unibench.frame import check_alike
from unibench.inference.row import ALL as ALL


def chosen(frame: pd.DataFrame, *, ability: str | None = ALL) -> pd.DataFrame:
    """The lines of the main metric, with a column ``label``; of one ability, or with None of all of
    them.

    Raises:
        UsageError: nothing is left to show; or several checkpoints, data or versions of a method,
            which no plot mixes.
    """
    lines = frame[frame["main"] & ((frame["ability"] == ability) if ability else True)]
    if lines.empty:
        raise UsageError("there is nothing to plot: no finished cell among these results")
    check_alike(lines, "a plot")
    variant = (
        lines["variant"]
        .fillna("")
        .where(lines["variant"].fillna("") == "", " " + lines["variant"].fillna(""))
    )
    return lines.assign(label=lines["method"] + variant)


def pruned(lines: pd.DataFrame) -> pd.DataFrame:
    """Without vanilla.

    Raises:
        UsageError: nothing is left.
    """
    rest = lines[lines["method"] != "vanilla"]
    if rest.empty:
        raise UsageError("there is nothing to plot: only vanilla is finished among these results")
    return rest


def one_mode(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines themselves, if all budgets mean the same.

    Raises:
        UsageError: budgets of two kinds; a plot never mixes them.
    """
    modes = sorted(lines.loc[lines["method"] != "vanilla", "budget_mode"].dropna().unique())
    if len(modes) > 1:
        raise UsageError(
            f"these results have budgets of {' and '.join(modes)}, which do not compare; choose one"
            f" with budget.mode={modes[0]}"
        )
    return lines
