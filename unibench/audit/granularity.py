"""Which printed numbers a share of n questions can be, and how many fit by chance.

The test is GRIM (Brown and Heathers 2017) for benchmark tables: a share of n right-or-wrong
answers is 100 k / n, so of all numbers with the printed digits only some can occur.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

STRETCH = 1.25  # furthest factor looked at by which a column may have been rescaled
FINE = 3  # factors tried per half printed digit of the largest value


def digits(text: str) -> int:
    """Digits after the decimal point, as printed.

    >>> digits("29.10")
    2
    """
    return len(text.partition(".")[2])


def fits(text: str, n: int) -> bool:
    """Whether a printed percentage is 100 k / n for a whole k, rounded to its digits.

    Computed in whole numbers; a value exactly between two roundings fits both ways.

    >>> fits("29.10", 1000), fits("29.19", 1000)
    (True, False)
    """
    places = digits(text)
    scale = int(10**places)
    units = round(float(text) * scale)
    whole = 100 * scale
    rest = units * n % whole
    return 0 <= units <= whole and 2 * min(rest, whole - rest) <= n


@cache
def chance(n: int, places: int) -> float:
    """Share of the numbers 0 to 100 with so many digits that fit n.

    >>> round(chance(1000, 2), 3), chance(1000, 1)
    (0.1, 1.0)
    """
    whole = 100 * 10**places
    rest = np.arange(whole + 1, dtype=np.int64) * n % whole
    return float(np.mean(2 * np.minimum(rest, whole - rest) <= n))


def tail(chances: Sequence[float], least: int) -> float:
    """Probability that at least so many of independent events of these chances happen.

    >>> tail([0.5, 0.5], 1)
    0.75
    """
    counts = np.array([1.0])  # probability of 0, 1, ... events so far
    for share in chances:
        counts = np.convolve(counts, [1 - share, share])
    return float(min(1.0, counts[max(least, 0) :].sum()))


@dataclass(frozen=True)
class Count:
    """How many of some printed numbers fit n.

    Attributes:
        n: of questions, times the steps of one question.
        fitting: numbers that fit.
        cells: numbers that can tell: some of their neighbours do not fit.
        expected: numbers that fit by chance.
        p: probability that so many *distinct* numbers fit by chance; a number printed twice is
            no second piece of evidence.
    """

    n: int
    fitting: int
    cells: int
    expected: float
    p: float

    @property
    def whole(self) -> bool:
        """Every number fits, and there are some."""
        return 0 < self.cells == self.fitting


def tells(text: str, n: int) -> bool:
    """Whether a number with these digits could fail to fit n."""
    return chance(n, digits(text)) < 1


@cache
def count(texts: tuple[str, ...], n: int) -> Count:
    """Fit of printed numbers to n; those with too few digits to tell are left out."""
    telling = [text for text in texts if tells(text, n)]
    distinct = sorted(set(telling))
    return Count(
        n,
        sum(fits(text, n) for text in telling),
        len(telling),
        sum(chance(n, digits(text)) for text in telling),
        tail(
            [chance(n, digits(text)) for text in distinct], sum(fits(text, n) for text in distinct)
        ),
    )


@dataclass(frozen=True)
class Factor:
    """A factor that makes every number a share of n.

    Attributes:
        value: what the printed numbers must be multiplied with.
        p: probability that one of the factors tried fits all numbers by chance.
    """

    value: float
    p: float


@cache
def factor(texts: tuple[str, ...], n: int) -> Factor | None:
    """The factor nearest to 1 by which the numbers become shares of n, if there is one."""
    values = np.array([float(text) for text in sorted(set(texts)) if float(text) > 0])
    if not len(values):
        return None
    half = 0.5 * 10.0 ** -max(digits(text) for text in texts)
    step = half / FINE / values.max()
    tried = np.exp(np.arange(-math.log(STRETCH), math.log(STRETCH), step))
    scaled = tried[:, None] * values[None, :]
    slack = tried[:, None] * half + step * scaled / 2  # between two factors that are tried
    off = np.abs(scaled * n / 100 - np.round(scaled * n / 100)) * 100 / n
    fitting = np.flatnonzero((off <= slack).all(axis=1))
    if not len(fitting):
        return None
    share = np.minimum(1.0, 2 * slack.mean(axis=0) * n / 100)
    nearest = fitting[np.argmin(np.abs(np.log(tried[fitting])))]
    return Factor(float(tried[nearest]), float(min(1.0, len(tried) * np.prod(share))))
