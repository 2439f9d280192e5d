"""Confidence intervals of mean scores, by bootstrap over pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

DRAWS = 2000
BATCH = 250  # draws at a time: at 10,000 pictures 20 MB

SMALL = 64  # pictures whose draws are kept, 1 MB
KEPT = 1 << 25  # draws times pictures up to which it is kept how often each was drawn, 32 MB
WHOLE = 1 << 24  # whole numbers below it are exact in single precision

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
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


def mean_interval(
    scores: Sequence[float] | Array, groups: Sequence[str], seed: int = 0
) -> Interval:
    """Bootstrap interval of a mean whose samples share pictures: whole pictures are drawn.

    Args:
        scores: one per sample.
        groups: the picture of each sample.
        seed: of the draws; the same samples give the same interval.

    >>> mean_interval([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])
    Interval(low=0.0, high=1.0)
    """
    if len(scores) == 0:
        return Interval(float("nan"), float("nan"))
    total, size = picture_sums([scores], groups)
    return _mean_interval(total.tobytes(), size.tobytes(), seed)


@lru_cache(maxsize=256)
def _mean_interval(total: bytes, size: bytes, seed: int) -> Interval:
    """By content: cells of few samples have the same scores again and again."""
    found = estimate(
        [np.frombuffer(total), np.frombuffer(size)],
        lambda total, size, axis=-1: total.sum(axis) / size.sum(axis),
        seed=seed,
        additive=True,
    )
    return Interval(found.low, found.high)


def picture_sums(columns: Sequence[Sequence[float] | Array], groups: Sequence[str]) -> list[Array]:
    """Sums over the samples of each picture, of each column, and the number of samples last.

    Returns:
        ``len(columns) + 1`` arrays ``[pictures]``, pictures in the order of their first sample.
    """
    place, number = _numbered(tuple(groups))
    weights = [np.asarray(column, dtype=float) for column in (*columns, np.ones(len(place)))]
    return [np.bincount(place, weight, number).astype(float) for weight in weights]


@lru_cache(maxsize=64)
def _numbered(groups: tuple[str, ...]) -> tuple[Places, int]:
    """The number of each sample's picture, and how many there are: by first appearance, so that
    draws do not depend on how pictures are named. The cells of a setting ask about the same ones.
    """
    order = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    return np.array([order[group] for group in groups], dtype=np.int64), len(order)


def estimate(
    sums: Sequence[Array],
    statistic: Statistic,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    additive: bool = False,
) -> Estimate:
    """A statistic of sums over pictures with its percentile interval: pictures are drawn with all
    that belongs to them.

    Args:
        sums: arrays ``[pictures]``, drawn together.
        statistic: see :data:`Statistic`.
        draws: number of bootstrap samples.
        seed: of the draws.
        additive: whether the statistic looks at sums over its last axis alone, so that these may
            be added up for it.
    """
    value = float(statistic(*sums))
    if len(sums[0]) < 2:
        return Estimate(
            value, value, value, np.full(draws, value)
        )  # one picture says nothing about others
    with np.errstate(divide="ignore", invalid="ignore"):
        # a draw may hold no right answer of vanilla: its drop is no number
        drawn = np.concatenate(
            [statistic(*columns, axis=-1) for columns in _columns(sums, draws, seed, additive)]
        )
    finite = np.isfinite(drawn)
    # draws without a number are left out of the percentiles
    quantile = np.quantile if finite.all() else np.nanquantile  # the latter takes twice as long
    low, high = quantile(drawn, [0.025, 0.975]) if finite.any() else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), drawn)


def _columns(
    sums: Sequence[Array], draws: int, seed: int, additive: bool
) -> Iterator[Sequence[Array]]:
    """The columns of a batch of draws, ``[draws, pictures]``, or ``[draws, 1]`` where they may be
    added up: whole numbers, which a product of matrices adds exactly, and much faster.
    """
    size, table = len(sums[0]), np.stack(sums, axis=-1)
    counts = None
    if additive and SMALL < size <= KEPT // draws:
        largest = float(np.abs(table).max())  # not below if one is no number
        if largest * size < WHOLE and not np.mod(table, 1).any():
            counts = _counts(size, draws, seed)
    if counts is None:
        for places in _drawn(size, draws, seed):
            yield [column[places] for column in sums]
        return
    narrow = table.astype(np.float32)
    for start in range(0, draws, BATCH):
        added = counts[start : start + BATCH].astype(np.float32) @ narrow
        yield [column[:, None].astype(float) for column in added.T]


@lru_cache(maxsize=2)
def _counts(size: int, draws: int, seed: int) -> npt.NDArray[np.uint8] | None:
    """How often each picture is drawn, ``[draws, pictures]``; None if one is drawn too often."""
    found = np.empty((draws, size), dtype=np.uint8)
    for number, places in enumerate(_batches(size, draws, seed)):
        rows = len(places)
        flat = (places + np.arange(rows)[:, None] * size).ravel()
        times = np.bincount(flat, minlength=rows * size)
        if times.max() > np.iinfo(np.uint8).max:
            return None
        found[number * BATCH : number * BATCH + rows] = times.reshape(rows, size)
    return found


def _drawn(size: int, draws: int, seed: int) -> Iterable[Places]:
    """Which pictures are drawn, ``[draws of a batch, pictures]``: those of scipy's ``bootstrap``
    with the same seed, which takes a second to import and a millisecond to call.
    """
    batches = _batches(size, draws, seed)
    return batches if size > SMALL else _kept(size, draws, seed)


def _batches(size: int, draws: int, seed: int) -> Iterator[Places]:
    generator = np.random.default_rng(seed)
    for start in range(0, draws, BATCH):
        yield generator.integers(0, size, (min(BATCH, draws - start), size))


@lru_cache(maxsize=64)
def _kept(size: int, draws: int, seed: int) -> tuple[Places, ...]:
    return tuple(_batches(size, draws, seed))
