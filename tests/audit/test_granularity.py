"""Shares of n questions, against counting by brute force."""

from __future__ import annotations

from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import product

import pytest

from unibench.audit.granularity import chance, count, digits, factor, fits, tail


def printable(n: int, places: int) -> set[str]:
    """Every share of n as it can be printed: exact decimals, halves rounded either way."""
    step = Decimal(1).scaleb(-places)
    found = set()
    for k in range(n + 1):
        share = Decimal(100 * k) / Decimal(n)
        for mode in (ROUND_HALF_UP, ROUND_HALF_DOWN):
            found.add(str(share.quantize(step, rounding=mode)))
    return found


@pytest.mark.parametrize(("n", "places"), [(7, 1), (16, 1), (304, 1), (64, 2), (304, 2), (1164, 2)])
def test_a_number_fits_exactly_where_a_share_is_printed_so(n: int, places: int) -> None:
    possible = printable(n, places)
    every = [f"{k / 10**places:.{places}f}" for k in range(100 * 10**places + 1)]
    assert {text for text in every if fits(text, n)} == possible
    assert chance(n, places) == pytest.approx(len(possible) / len(every), abs=1e-12)


def test_a_half_fits_rounded_up_and_down() -> None:
    assert (fits("12.5", 8), fits("12", 8), fits("13", 8), fits("14", 8)) == (
        True,
        True,
        True,
        False,
    )


@pytest.mark.parametrize("text", ["100.01", "101", "250.0"])
def test_more_than_everything_fits_no_number(text: str) -> None:
    assert not fits(text, 1000)


def test_the_tail_is_that_of_all_outcomes_counted() -> None:
    chances = [Fraction(1, 10), Fraction(1, 3), Fraction(1, 2), Fraction(3, 4), Fraction(1)]
    for least in range(len(chances) + 2):
        exact = Fraction(0)
        for outcome in product((0, 1), repeat=len(chances)):
            if sum(outcome) >= least:
                share = Fraction(1)
                for happens, p in zip(outcome, chances, strict=True):
                    share *= p if happens else 1 - p
                exact += share
        assert tail([float(p) for p in chances], least) == pytest.approx(float(exact), abs=1e-12)


def test_a_number_printed_twice_is_one_piece_of_evidence() -> None:
    once, twice = count(("29.10", "30.40"), 1000), count(("29.10", "30.40", "30.40"), 1000)
    assert (once.p, once.cells) == (twice.p, 2)
    assert (twice.fitting, twice.cells) == (3, 3)
    assert once.p == pytest.approx(chance(1000, 2) ** 2)


def test_numbers_with_too_few_digits_are_not_counted() -> None:
    assert count(("29.1", "30", "29.19"), 1000).cells == 1


@pytest.mark.parametrize("scale", [0.9, 1.037, 1.11])
def test_rescaled_shares_are_recognised_with_their_factor(scale: float) -> None:
    shares = [100 * k / 304 for k in (61, 75, 83, 90, 104, 117, 121, 133, 140, 152)]
    texts = tuple(f"{share / scale:.2f}" for share in shares)
    assert not count(texts, 304).whole
    found = factor(texts, 304)
    assert found is not None
    assert found.value == pytest.approx(scale, rel=2e-4)
    assert found.p < 0.001


def test_a_factor_for_a_handful_of_numbers_is_no_evidence() -> None:
    found = factor(("29.19", "24.93", "20.07"), 1000)
    assert found is None or found.p > 0.5


def test_digits_are_those_behind_the_point() -> None:
    assert [digits(text) for text in ("12", "12.0", "12.30")] == [0, 1, 2]
