"""Two methods on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unibench.stats.interval import Array, Estimate, estimate, picture_sums

ALPHA = 0.05
FEW = 30  # pictures, of which an interval is too narrow
FLIPPED = 14  # differing pictures up to which every flip of their signs is tried
TEST_DRAWS = 9999  # the smallest p is 1 / 10,000, small enough for Holm over hundreds of tests


@dataclass(frozen=True)
class Paired:
    """How much better the second is than the first, in units of the score.

    Attributes:
        n: samples.
        pictures: that they are about.
        first, second: mean scores.
        difference: ``second - first``; ``low``, ``high``: its 95 % interval.
        p: two-sided.
        test: ``McNemar`` (exact) for right or wrong with one question to a picture, else
            ``sign flips`` (exact) where few pictures differ, else ``bootstrap``.
        won, lost: samples that the second scores higher, and lower.
    """

    n: int
    pictures: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    test: str
    won: int
    lost: int

    @property
    def sure(self) -> bool:
        """Whether the two differ beyond doubt: the interval leaves 0 out, and the test, which is
        less sure of a few pictures, says so too.
        """
        return (self.low > 0 or self.high < 0) and self.p < ALPHA


def paired(
    first: Sequence[float] | Array,
    second: Sequence[float] | Array,
    groups: Sequence[str],
    *,
    draws: int = TEST_DRAWS,
    seed: int = 0,
) -> Paired:
    """Compare two lists of scores of the same samples.

    McNemar's test takes the samples for independent; where several questions share a picture they
    are not, and a test of whole pictures takes its place: the bootstrap, or where no more than
    :data:`FLIPPED` pictures differ, whose draws would be too sure, all flips of their signs.

    Args:
        first, second: scores, sample by sample.
        groups: the picture of each sample.
        draws: of the bootstrap.
        seed: of the draws.

    >>> result = paired([1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0], list("abcdefgh"))
    >>> result.test, result.p, result.lost
    ('McNemar', 0.03125, 6)
    """
    one, two = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    sums = picture_sums([one, two], groups)
    found = estimate(
        sums,
        lambda a, b, size, axis=-1: (b.sum(axis) - a.sum(axis)) / size.sum(axis),
        draws=draws,
        seed=seed,
        additive=True,
    )
    # samples scored alike say nothing in McNemar's test
    won, lost = int((two > one).sum()), int((two < one).sum())
    # as many pictures as samples: no two questions share one
    exact = len(sums[0]) == len(one) and bool(np.isin([one, two], (0.0, 1.0)).all())
    apart = (sums[1] - sums[0])[sums[1] != sums[0]]
    if exact:
        test, p = "McNemar", mcnemar_p(won, lost)
    elif len(apart) <= FLIPPED:
        test, p = "sign flips", flipped_p(apart)
    else:
        test, p = "bootstrap", shifted_p(found)
    means = float(one.mean()), float(two.mean())
    return Paired(
        len(one),
        len(sums[0]),
        *means,
        found.value,
        found.low,
        found.high,
        p,
        test,
        won,
        lost,
    )


def mcnemar_p(won: int, lost: int) -> float:
    """Exact two-sided p of McNemar's test from the samples on which two methods differ: as
    statsmodels has it, whose import takes longer than a comparison.

    >>> mcnemar_p(1, 5), mcnemar_p(0, 0)
    (0.21875, 1.0)
    """
    from scipy.stats import binom  # takes a second

    return min(1.0, 2 * float(binom.cdf(min(won, lost), won + lost, 0.5)))


def flipped_p(differences: Array) -> float:
    """Exact two-sided p of differences ``[pictures]``: the share of flips of their signs under
    which their sum is as far from zero. Fisher's randomization test for pairs.

    >>> flipped_p(np.array([1.0, 1.0, 2.0]))
    0.25
    """
    sums = np.abs(_signs(len(differences)) @ differences)
    return float((sums >= abs(differences.sum()) - 1e-9).mean())


@lru_cache(maxsize=FLIPPED + 1)
def _signs(count: int) -> Array:
    """``[2 ** count, count]``: every choice of signs."""
    places = np.arange(2**count)[:, None] >> np.arange(count)
    return np.where(places & 1, -1.0, 1.0)


def shifted_p(found: Estimate) -> float:
    """Two-sided p of a difference: how often draws lie as far from it as it lies from zero."""
    distances = np.abs(found.draws - found.value)
    # plus one above and below: the sample itself counts as a draw, so that p is never 0
    return float((1 + (distances >= abs(found.value) - 1e-12).sum()) / (1 + len(distances)))


def drop(
    vanilla: Sequence[float], method: Sequence[float], groups: Sequence[str], seed: int = 0
) -> Estimate:
    """Relative drop in per cent, ``100 (vanilla - method) / vanilla``, with its interval: both vary
    with the pictures drawn.

    >>> drop([1, 1, 1, 1], [1, 1, 1, 0], list("abcd")).value
    25.0
    """

    def relative(full: Array, pruned: Array, size: Array, axis: int = -1) -> Array:
        total: Array = full.sum(axis)
        found: Array = 100 * (1 - pruned.sum(axis) / np.where(total == 0, np.nan, total))
        return found

    sums = picture_sums([vanilla, method], groups)
    return estimate(sums, relative, seed=seed, additive=True)
