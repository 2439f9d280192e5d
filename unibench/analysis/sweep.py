"""Score against a parameter of a method: IDPruner's lambda (table 7), STP's alpha (figures 4 and
5), TrimTokenator's N1.

And against what a budget means, for the methods that were run in more than one way.
"""

from __future__ import annotations

import json

import pandas as pd

from unibench.errors import UsageError, unknown
from unibench.frame import check_alike
from unibench.inference.row import ALL, columns

MODE = "budget.mode"
COLUMNS = (
    *columns("model", "task", "method", "budget", "budget_mode"),
    *("value", "curve"),
    *columns("n", "score_100", "low", "high", "drop_pct", "kept_mean", "equiv_tokens"),
)


def varying(frame: pd.DataFrame) -> list[str]:
    """Parameters that a method has with several values among these cells, ``method.parameter``, and
    :data:`MODE`.
    """
    found = [MODE] if _modes(frame) else []
    for method, lines in frame.groupby("method", sort=False):
        given = pd.DataFrame([json.loads(text) for text in lines["params"].unique()]).astype(str)
        found += [f"{method}.{name}" for name in given if given[name].nunique() > 1]
    return found


def sweep(frame: pd.DataFrame, parameter: str | None = None) -> tuple[str, pd.DataFrame]:
    """The lines of one method by the value of one of its parameters, or of all methods by what a
    budget means.

    Args:
        frame: of finished cells (``unibench.frame``), joined over seeds or not.
        parameter: ``method.parameter`` or :data:`MODE`; may be left out where only one varies.

    Returns:
        The parameter, and columns :data:`COLUMNS` in the order of the cells. ``curve`` is the
        ability, or ``all``; of :data:`MODE` the method.

    Raises:
        UsageError: no such parameter varies, or several do and none is named; or several
            checkpoints, data or versions of a method, which are never mixed.
    """
    lines = frame[frame["main"]]
    check_alike(lines, "a sweep")
    known = varying(lines)
    if parameter is None and len(known) != 1:
        hint = (
            f"name one of {', '.join(known)}"
            if known
            else "no parameter of a method has two values among these cells"
        )
        raise UsageError(f"a sweep follows one parameter: {hint}")
    name = parameter or known[0]
    if name not in known:
        raise unknown("parameter with several values", name, known)
    if name == MODE:
        lines = lines[lines["method"].isin(_modes(lines)) & (lines["ability"] == ALL)]
        lines = lines.assign(value=lines["budget_mode"], curve=lines["method"])
    else:
        method, _, key = name.partition(".")
        lines = lines[lines["method"] == method]
        lines = lines.assign(
            value=[json.loads(text)[key] for text in lines["params"]], curve=lines["ability"]
        )
    return name, lines[list(COLUMNS)].reset_index(drop=True)


def by_task(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines of a sweep over several tasks with one curve for each task."""
    return lines[lines["curve"] == ALL].assign(curve=lines["task"])


def _modes(frame: pd.DataFrame) -> list[str]:
    """Methods that have budgets of more than one mode."""
    counts = (
        frame[frame["method"] != "vanilla"].groupby("method", sort=False)["budget_mode"].nunique()
    )
    return [str(method) for method in counts.index[counts > 1]]
