"""How sure a mean score is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def mean_interval(scores: Sequence[float], groups: Sequence[str], seed: int = 0) -> Interval:
    """Bootstrap interval of a mean whose samples share pictures: whole pictures are drawn.

    Args:
        scores: one per sample.
        groups: the picture of each sample.
        seed: of the draws; the same samples give the same interval.
    """
    if not scores:
        return Interval(float("nan"), float("nan"))
    index = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    sums, sizes = np.zeros(len(index)), np.zeros(len(index))
    for score, group in zip(scores, groups, strict=True):
        sums[index[group]] += score
        sizes[index[group]] += 1
    draws = np.random.default_rng(seed).integers(0, len(index), (DRAWS, len(index)))
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(high))
