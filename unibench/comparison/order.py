"""Whether two models, tasks or trainings put methods in the same order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import kendalltau

from unibench import frame
from unibench.comparison.against import APART, CONTROLS
from unibench.inference.row import columns

FEWEST = 3  # methods whose order says anything
HALVINGS = 20
BUDGET = columns("budget", "budget_mode", "budget_scope")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """The order of methods at one budget, by place: a model on a task.

    Attributes:
        budget: its label.
        places: their names.
        methods: that every place has, the best on average first.
        left_out: methods that some place lacks.
        tau: ``[P, P]``, Kendall's tau-b between the scores of each two places; on the diagonal
            between two halves of one place's pictures, a mean over :data:`HALVINGS` drawn halvings.
            NaN where all methods have one score.
    """

    budget: str
    places: tuple[str, ...]
    methods: tuple[str, ...]
    left_out: tuple[str, ...]
    tau: Array


def orders(lines: pd.DataFrame) -> list[Order]:
    """The orders at each budget of which there are :data:`FEWEST` methods in common.

    Args:
        lines: of :func:`unibench.frame.whole`, seeds joined. Controls have no place in an order of
            methods: what all of them beat would make any two orders look alike.

    Raises:
        UsageError: a place has several versions of a method.
    """
    pruned = lines[~lines["method"].isin((*CONTROLS, *APART))]
    if not len(pruned):
        return []
    frame.check_alike(pruned, "an order")
    found = []
    for (budget, *_), part in pruned.groupby(list(BUDGET), sort=False):
        places = dict(_places(part))
        labels = {label for own in places.values() for label in own.index}
        common = sorted(
            label for label in labels if all(label in own.index for own in places.values())
        )
        if len(common) < FEWEST:
            continue
        scores = np.array([own.loc[common, "score_100"] for own in places.values()], dtype=float)
        best = np.argsort(-scores.mean(0), kind="stable")
        methods = [common[number] for number in best]
        tau = np.array([[_tau(one, two) for two in scores] for one in scores])
        np.fill_diagonal(tau, [_of_halves(own.loc[methods, "folder"]) for own in places.values()])
        left_out = tuple(sorted(labels - set(common)))
        found.append(Order(str(budget), tuple(places), tuple(methods), left_out, tau))
    return found


def _places(lines: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The lines of each model and task by the label of their method, with the place's name."""
    several = lines["task"].nunique() > 1
    for name, part in frame.conditions(lines):
        for task, own in part.groupby("task", sort=False):
            labels = (own["method"] + " " + own["variant"]).str.strip()
            yield f"{name} on {task}" if several else name, own.set_index(labels)


def _tau(one: Array, two: Array) -> float:
    return float(kendalltau(one, two).statistic)


def _of_halves(series: Sequence[Sequence[str]]) -> float:
    """Mean tau between the orders that two halves of the pictures give.

    Args:
        series: folders of each method's cells.
    """
    scores = [frame.mean_scores(folders) for folders in series]
    shared = [name for name in scores[0] if all(name in own for own in scores)]
    values = np.array([[own[name][0] for name in shared] for own in scores])
    pictures, of = np.unique([scores[0][name][1] for name in shared], return_inverse=True)
    if len(pictures) < 2:
        return math.nan
    draw, found = np.random.default_rng(0), []
    for _ in range(HALVINGS):
        first = (draw.permutation(len(pictures)) < len(pictures) // 2)[of]
        found.append(_tau(np.nanmean(values[:, first], 1), np.nanmean(values[:, ~first], 1)))
    known = [tau for tau in found if not math.isnan(tau)]  # a half in which all are equal has none
    return fmean(known) if known else math.nan
