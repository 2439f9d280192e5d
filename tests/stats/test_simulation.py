"""Intervals cover the truth, and tests keep their level, on data whose truth is known.

The default run takes a few draws and wide limits; the slow one is what docs/statistics.md reports
(``-s`` prints the figures).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unibench.stats import drop, mean_interval, paired

Draws = np.random.Generator
SIZES = [
    pytest.param(150, (0.89, 0.99), 0.1, id="quick"),
    pytest.param(1000, (0.93, 0.97), 0.06, id="full", marks=pytest.mark.slow),
]


def own_pictures(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def shared_pictures(count: int) -> list[str]:
    return [str(i // 4) for i in range(count)]


def right_or_wrong(draws: Draws) -> tuple[Any, list[str], float]:
    return draws.random(200) < 0.7, own_pictures(200), 0.7


def graded(draws: Draws) -> tuple[Any, list[str], float]:
    return draws.beta(2, 1, 100), own_pictures(100), 2 / 3


def four_questions_to_a_picture(draws: Draws) -> tuple[Any, list[str], float]:
    return draws.random(400) < np.repeat(draws.beta(2.1, 0.9, 100), 4), shared_pictures(400), 0.7


@pytest.mark.parametrize(("count", "limits", "_level"), SIZES)
@pytest.mark.parametrize("kind", [right_or_wrong, graded, four_questions_to_a_picture])
def test_intervals_of_a_score_cover_the_truth(
    kind: Callable[..., Any], count: int, limits: tuple[float, float], _level: float
) -> None:
    draws, covered = np.random.default_rng(1), 0
    for _ in range(count):
        scores, groups, truth = kind(draws)
        found = mean_interval([float(score) for score in scores], groups)
        covered += found.low <= truth <= found.high
    print(f"coverage, {kind.__name__}: {covered / count:.3f} of {count}")
    assert limits[0] <= covered / count <= limits[1]


@pytest.mark.parametrize(("count", "limits", "_level"), SIZES)
def test_intervals_of_a_drop_cover_the_truth(
    count: int, limits: tuple[float, float], _level: float
) -> None:
    draws, covered, truth = np.random.default_rng(2), 0, 100 * 0.3 * (0.8 - 0.4) / 0.8
    for _ in range(count):
        vanilla = draws.random(200) < 0.8
        method = np.where(draws.random(200) < 0.3, draws.random(200) < 0.4, vanilla)
        found = drop(
            [float(score) for score in vanilla],
            [float(score) for score in method],
            own_pictures(200),
        )
        covered += found.low <= truth <= found.high
    print(f"coverage, drop: {covered / count:.3f} of {count}")
    assert limits[0] <= covered / count <= limits[1]


def equally_right(draws: Draws) -> tuple[Any, Any, list[str]]:
    base = draws.random(200) < 0.7
    first, second = (
        np.where(draws.random(200) < 0.2, draws.random(200) < 0.7, base) for _ in range(2)
    )
    return first, second, own_pictures(200)


def equally_graded(draws: Draws) -> tuple[Any, Any, list[str]]:
    base = draws.beta(2, 1, 100)
    return base + draws.normal(0, 0.1, 100), base + draws.normal(0, 0.2, 100), own_pictures(100)


def equally_right_on_pictures(draws: Draws) -> tuple[Any, Any, list[str]]:
    first, second = (draws.random(400) < np.repeat(draws.beta(2.1, 0.9, 100), 4) for _ in range(2))
    return first, second, shared_pictures(400)


def equally_right_on_seven_pictures(draws: Draws) -> tuple[Any, Any, list[str]]:
    first, second = (draws.random(35) < np.repeat(draws.beta(2.1, 0.9, 7), 5) for _ in range(2))
    return first, second, [str(i // 5) for i in range(35)]


@pytest.mark.parametrize(("count", "_limits", "level"), SIZES)
@pytest.mark.parametrize(
    "kind",
    [
        equally_right,
        equally_graded,
        equally_right_on_pictures,
        equally_right_on_seven_pictures,
    ],
)
def test_methods_that_are_equal_are_seldom_told_apart(
    kind: Callable[..., Any], count: int, _limits: Any, level: float
) -> None:
    draws, rejected = np.random.default_rng(3), 0
    for _ in range(count):
        first, second, groups = kind(draws)
        found = paired(
            [float(score) for score in first], [float(score) for score in second], groups, draws=999
        )
        rejected += found.p <= 0.05
    print(f"false positives, {kind.__name__}: {rejected / count:.3f} of {count}")
    assert rejected / count <= level


def test_a_real_difference_is_found() -> None:
    draws = np.random.default_rng(4)
    first, second, groups = equally_right(draws)
    worse = np.where(draws.random(200) < 0.2, False, second)
    assert (
        paired([float(score) for score in first], [float(score) for score in worse], groups).p
        < 0.01
    )
