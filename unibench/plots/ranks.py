"""The critical-difference diagram: mean ranks over tasks, and who cannot be told apart."""

from __future__ import annotations

import pandas as pd
import scikit_posthocs
from matplotlib.figure import Figure

from unibench.errors import UsageError
from unibench.plots.canvas import canvas, title
from unibench.plots.lines import chosen, one_mode, pruned


def critical_difference(frame: pd.DataFrame, budget: str) -> Figure:
    """Mean ranks of the methods over models and tasks at a budget; bars join what Nemenyi's test
    cannot separate at 5 %.

    Demsar, JMLR 7 (2006). Only tasks that all the methods have count.

    Raises:
        UsageError: fewer than three methods or two tasks.
    """
    lines = pruned(one_mode(chosen(frame)))
    lines = lines[lines["budget"] == budget]
    table = lines.pivot_table(index=["model", "task"], columns="label", values="score_100").dropna()
    if table.shape[0] < 2 or table.shape[1] < 3:
        raise UsageError(
            "a critical-difference diagram wants three methods on two tasks or more; at budget"
            f" {budget} there are {table.shape[::-1]}"
        )
    ranks = table.rank(axis=1, ascending=False).mean()
    alike = scikit_posthocs.posthoc_nemenyi_friedman(table.to_numpy())
    alike.index = alike.columns = table.columns
    figure, (panel,) = canvas(width=7.0, height=1.2 + 0.22 * len(ranks))
    scikit_posthocs.critical_difference_diagram(ranks, alike, ax=panel)
    title(
        figure,
        f"mean rank over {len(table)} tasks at ratio {budget}",
        {str(model) for model, _ in table.index},
    )
    return figure
