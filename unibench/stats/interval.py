"""How sure a mean score is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

DRAWS = 2000
BATCH = 250  # draws at a time: at 10,000 pictures 20 MB

Array = npt.NDArray[np.float64]
Statistic = Callable[..., Any]
"""From sums over pictures, each ``[..., pictures]``, to the statistic over the last axis."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A number, its 95 % interval, and the draws that the interval comes from.

    Attributes:
        value: of the samples themselves.
        low, high: percentiles 2.5 and 97.5 of the draws.
        draws: ``[draws]``, the statistic of each.
    """

    value: float
    low: float
    high: float
    draws: Array


def mean_interval(scores: Sequence[float], groups: Sequence[str], seed: int = 0) -> Interval:
    """Bootstrap interval of a mean whose samples share pictures: whole pictures are drawn.

    Args:
        scores: one per sample.
        groups: the picture of each sample.
        seed: of the draws; the same samples give the same interval.

    >>> mean_interval([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])
    Interval(low=0.0, high=1.0)
    """
    if not scores:
        return Interval(float("nan"), float("nan"))
    found = estimate(
        picture_sums([scores], groups),
        lambda total, size, axis=-1: total.sum(axis) / size.sum(axis),
        seed=seed,
    )
    return Interval(found.low, found.high)


def picture_sums(columns: Sequence[Sequence[float]], groups: Sequence[str]) -> list[Array]:
    """Sums over the samples of each picture, of each column, and the number of samples last.

    Returns:
        ``len(columns) + 1`` arrays ``[pictures]``, pictures in the order of their first sample.
    """
    order = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    place = np.array([order[group] for group in groups])
    weights = [np.asarray(column, dtype=float) for column in (*columns, np.ones(len(place)))]
    return [np.bincount(place, weight, len(order)).astype(float) for weight in weights]


def estimate(
    sums: Sequence[Array], statistic: Statistic, *, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """A statistic of sums over pictures with its percentile interval: pictures are drawn with all
    that belongs to them.

    Args:
        sums: arrays ``[pictures]``, drawn together.
        statistic: see :data:`Statistic`.
        draws: number of bootstrap samples.
        seed: of the draws.
    """
    value = float(statistic(*sums))
    if len(sums[0]) < 2:
        return Estimate(
            value, value, value, np.full(draws, value)
        )  # one picture says nothing about others
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # a draw may hold no right answer of vanilla: its drop is no number
        drawn = stats.bootstrap(
            tuple(sums),
            statistic,
            n_resamples=draws,
            batch=BATCH,
            vectorized=True,
            paired=True,
            method="percentile",
            rng=seed,
        ).bootstrap_distribution
    low, high = (
        np.nanquantile(drawn, [0.025, 0.975])
        if np.isfinite(drawn).any()
        else (float("nan"), float("nan"))
    )
    return Estimate(value, float(low), float(high), drawn)
