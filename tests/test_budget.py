"""One rounding rule, three ways to say it, and what is refused."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unibench import Budget, UsageError


@pytest.mark.parametrize(
    ("ratio", "total", "kept"),
    [
        (0.889, 576, 64),
        (0.778, 576, 128),
        (0.667, 576, 192),
        (0.889, 2691, 299),
        (0.778, 2880, 639),
        ("7/9", 2880, 640),
        (0.99, 1, 1),
        (0, 50, 50),
    ],
)
def test_published_budgets(ratio: float | str, total: int, kept: int) -> None:
    assert Budget.parse(ratio=ratio).keep(total) == kept


@given(st.decimals(0, "0.9999", places=4), st.integers(1, 20000))
def test_the_rule(ratio: object, total: int) -> None:
    share = 1 - Fraction(str(ratio))
    assert Budget.parse(ratio=str(ratio)).keep(total) == max(
        1, math.floor(share * total + Fraction(1, 2))
    )


@given(st.integers(1, 999), st.integers(1, 5000))
def test_ratio_and_retention_that_complement_each_other_agree(thousandths: int, total: int) -> None:
    ratio, retention = thousandths / 1000, (1000 - thousandths) / 1000
    assert Budget.parse(ratio=ratio).keep(total) == Budget.parse(retention=retention).keep(total)
    assert Budget.parse(ratio=ratio, retention=retention) == Budget.parse(ratio=ratio)


@given(st.integers(1, 999), st.integers(1, 5000))
def test_python_rounds_the_float_product_of_what_was_stated(thousandths: int, total: int) -> None:
    ratio, retention = thousandths / 1000, (1000 - thousandths) / 1000
    rounded = Budget.parse(ratio=ratio, rounding="python_round")
    assert rounded.keep(total) == max(1, round(total * (1 - ratio)))
    truncated = Budget.parse(ratio=ratio, rounding="python_int")
    assert truncated.keep(total) == max(1, int(total * retention))
    stated = Budget.parse(retention=retention, rounding="python_round")
    assert stated.keep(total) == max(1, round(total * retention))


def test_python_rounds_a_tenth_of_the_numbers_otherwise_than_the_rule() -> None:
    rule, python = Budget.parse(ratio=0.75), Budget.parse(ratio=0.75, rounding="python_round")
    other = [total for total in range(4, 3001) if rule.keep(total) != python.keep(total)]
    assert len(other) == 374 and other[:3] == [10, 18, 26]
    assert all(rule.keep(total) == python.keep(total) + 1 for total in other)


def test_an_absolute_budget_has_nothing_to_round() -> None:
    assert Budget.parse(keep=64, rounding="python_int") == Budget.parse(keep=64)


def test_an_absolute_budget_is_at_most_everything() -> None:
    assert [Budget.parse(keep=64).keep(total) for total in (10, 64, 2880)] == [10, 64, 64]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(ratio=88.9), "Did you mean 0.889"),
        (dict(ratio=1), "outside"),
        (dict(ratio=-0.1), "outside"),
        (dict(ratio="many"), "not a number"),
        (dict(ratio="1/0"), "not a number"),
        (dict(retention=0), "outside"),
        (dict(retention=11.1), "Did you mean 0.111"),
        (dict(ratio=0.5, retention=0.4), "give one"),
        (dict(ratio=0.5, keep=64), "once"),
        (dict(keep=0), "at least 1"),
        (dict(keep=1.5), "whole number"),
    ],
)
def test_what_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Budget.parse(**given)
