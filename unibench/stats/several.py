"""Many tests at once, and many methods over many tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from unibench.errors import UsageError


@dataclass(frozen=True)
class Ranking:
    """Methods ranked on every task.

    Attributes:
        tasks: number of them.
        mean_ranks: by method, best first; 1 is the best rank.
        statistic, p: of Friedman's test that no method differs.
        nemenyi: p of each pair, methods by methods.
        critical_difference: of mean ranks, from which Nemenyi's test tells two methods apart at 5
            %.
    """

    tasks: int
    mean_ranks: pd.Series[float]
    statistic: float
    p: float
    nemenyi: pd.DataFrame
    critical_difference: float


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for their number by Holm's method.

    >>> [round(value, 6) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    steps = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    # a greater p is never corrected to a smaller one
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    found: list[float] = corrected.tolist()
    return found


def ranking(scores: pd.DataFrame) -> Ranking:
    """Friedman's test and, for each pair, Nemenyi's.

    Args:
        scores: tasks by methods, higher is better, nothing missing.

    Raises:
        UsageError: fewer than three methods or two tasks.
    """
    import scikit_posthocs  # takes seconds, and most comparisons are of two methods

    tasks, methods = scores.shape
    if methods < 3 or tasks < 2:
        raise UsageError(f"ranks need at least 3 methods and 2 tasks, not {methods} and {tasks}")
    ranks = pd.Series(
        stats.rankdata(-scores.to_numpy(), axis=1).mean(0), index=scores.columns
    ).sort_values(kind="stable")
    test = stats.friedmanchisquare(*(scores[name] for name in scores))
    pairs = scikit_posthocs.posthoc_nemenyi_friedman(scores.reset_index(drop=True))
    # Demsar 2006, section 3.2.2: the Studentized range over the root of 2
    width = stats.studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2)
    critical = float(width * np.sqrt(methods * (methods + 1) / (6 * tasks)))
    return Ranking(
        tasks,
        ranks,
        float(test.statistic),
        float(test.pvalue),
        pairs.loc[ranks.index, ranks.index],
        critical,
    )
