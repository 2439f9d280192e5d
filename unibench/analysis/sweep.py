"""Score against a parameter of a method: IDPruner's lambda (table 7), STP's alpha (figures 4 and 5), TrimTokenator's N1."""

from __future__ import annotations

import json

import pandas as pd

from unibench.errors import UsageError, unknown

COLUMNS = ["model", "task", "method", "budget", "budget_mode", "value", "ability", "n", "score_100", "low", "high", "drop_pct"]


def varying(frame: pd.DataFrame) -> list[str]:
    """Parameters that a method has with several values among these cells, ``method.parameter``."""
    found = []
    for method, lines in frame.groupby("method", sort=False):
        given = pd.DataFrame([json.loads(text) for text in lines["params"].unique()]).astype(str)
        found += [f"{method}.{name}" for name in given if given[name].nunique() > 1]
    return found


def sweep(frame: pd.DataFrame, parameter: str | None = None) -> tuple[str, pd.DataFrame]:
    """The lines of one method by the value of one of its parameters.

    Args:
        frame: of finished cells (``unibench.frame``), joined over seeds or not.
        parameter: ``method.parameter``; may be left out where only one varies.

    Returns:
        The parameter, and columns :data:`COLUMNS`: every ability, and ``all``, in the order of the cells.

    Raises:
        UsageError: no such parameter varies, or several do and none is named.
    """
    lines = frame[frame["main"]]
    known = varying(lines)
    if parameter is None and len(known) != 1:
        hint = f"name one of {', '.join(known)}" if known else "no parameter of a method has two values among these cells"
        raise UsageError(f"a sweep follows one parameter: {hint}")
    name = parameter or known[0]
    if name not in known:
        raise unknown("parameter with several values", name, known)
    method, _, key = name.partition(".")
    lines = lines[lines["method"] == method]
    values = [json.loads(text)[key] for text in lines["params"]]
    return name, lines.assign(value=values)[COLUMNS].reset_index(drop=True)
