"""Statistics against values computed by hand, printed in the literature, or given by another
library.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unibench.errors import UsageError
from unibench.stats import agreement, drop, mean_interval, paired
from unibench.stats.interval import estimate, picture_sums
from unibench.stats.paired import flipped_p, mcnemar_p
from unibench.stats.several import holm, ranking


def test_ranks_and_friedmans_statistic_by_hand() -> None:
    scores = pd.DataFrame(
        [[70.0, 60.0, 50.0], [71.0, 65.0, 66.0], [80.0, 81.0, 79.0], [90.0, 70.0, 60.0]],
        columns=["a", "b", "c"],
    )
    found = ranking(scores)
    assert found.tasks == 4 and found.mean_ranks.to_dict() == {"a": 1.25, "b": 2.0, "c": 2.75}
    assert found.statistic == pytest.approx(
        12 * 4 / (3 * 4) * (1.25**2 + 2.0**2 + 2.75**2 - 3 * 4**2 / 4)
    )  # 4.5
    assert found.p == pytest.approx(np.exp(-4.5 / 2))  # chi squared with two degrees of freedom


@pytest.mark.parametrize(("methods", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_those_of_the_printed_table(methods: int, q: float) -> None:
    """Demsar, JMLR 7 (2006), Table 5: q at 5 % of the two-tailed Nemenyi test."""
    found = ranking(pd.DataFrame(np.random.default_rng(6).random((14, methods))))
    assert found.critical_difference == pytest.approx(
        q * np.sqrt(methods * (methods + 1) / (6 * 14)), rel=1e-3
    )


def test_nemenyi_tells_apart_what_lies_further_than_the_critical_difference() -> None:
    scores = pd.DataFrame([[3.0, 2.0, 1.0]] * 6, columns=["a", "b", "c"])
    found = ranking(scores)
    assert found.nemenyi.loc["a", "c"] < 0.05 < found.nemenyi.loc["a", "b"]


@pytest.mark.parametrize("shape", [(1, 3), (5, 2)])
def test_too_few_to_rank_is_said(shape: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="at least 3 methods and 2 tasks"):
        ranking(pd.DataFrame(np.ones(shape)))


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 5), (10, 3), (40, 40), (0, 12)])
def test_mcnemar_is_the_binomial_test_of_the_differing_samples(won: int, lost: int) -> None:
    expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar_p(won, lost) == pytest.approx(expected)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_questions_about_one_picture_are_drawn_together() -> None:
    scores = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    alone = mean_interval(scores, list("abcdefgh"))
    shared = mean_interval(scores, list("aaaabbbb"))
    assert (alone.low, alone.high) == (0.125, 0.875) and (shared.low, shared.high) == (0.0, 1.0)


def test_the_interval_of_a_mean_is_near_the_normal_one_for_many_samples() -> None:
    scores = np.random.default_rng(3).normal(0.5, 0.2, 2000)
    found, error = (
        mean_interval(scores.tolist(), [str(i) for i in range(2000)]),
        scores.std(ddof=1) / np.sqrt(2000),
    )
    assert (found.low, found.high) == pytest.approx(
        (scores.mean() - 1.96 * error, scores.mean() + 1.96 * error), abs=error / 5
    )


def test_the_bootstrap_p_of_a_difference_is_near_the_t_test() -> None:
    draws = np.random.default_rng(4)
    first = draws.normal(0.5, 0.1, 400)
    second = first + draws.normal(0.012, 0.1, 400)
    found = paired(first.tolist(), second.tolist(), [str(i) for i in range(400)])
    assert found.test == "bootstrap" and found.p == pytest.approx(
        stats.ttest_rel(first, second).pvalue, abs=0.01
    )
    assert (
        found.difference == pytest.approx((second - first).mean())
        and found.low < found.difference < found.high
    )


def test_right_and_wrong_with_a_picture_each_take_mcnemar_and_shared_ones_a_test_of_pictures() -> (
    None
):
    first, second = [1.0] * 10 + [0.0] * 10, [1.0] * 4 + [0.0] * 16
    alone = paired(first, second, [str(i) for i in range(20)])
    shared = paired(first, second, [str(i // 2) for i in range(20)])
    assert (alone.test, alone.p, alone.won, alone.lost) == ("McNemar", 0.03125, 0, 6)
    # three pictures differ, all one way: 2 of 8 flips of their signs
    assert (shared.test, shared.pictures, shared.p) == ("sign flips", 10, 0.25)
    first, second = [1.0] * 80, [1.0] * 40 + [0.0] * 40
    assert paired(first, second, [str(i // 2) for i in range(80)]).test == "bootstrap"


def test_flips_of_signs_are_scipys_permutations_of_pairs() -> None:
    draws = np.random.default_rng(7)
    for count in (2, 5, 9):
        one, two = draws.normal(0, 1, (2, count))
        expected = stats.permutation_test(
            (one, two),
            lambda a, b, axis: (b - a).sum(axis),
            permutation_type="samples",
            vectorized=True,
        )
        assert flipped_p(two - one) == pytest.approx(expected.pvalue)
    assert flipped_p(np.array([])) == 1.0


def test_a_handful_of_pictures_is_never_sure() -> None:
    """35 questions on 7 pictures, each of which loses as much: the interval has no width."""
    groups = [str(number // 5) for number in range(35)]
    found = paired([1.0] * 35, ([1.0] * 4 + [0.0]) * 7, groups)
    assert (found.low, found.high, found.test) == (found.high, found.low, "sign flips")
    assert found.p == 2 / 2**7 and found.sure
    few = paired([1.0] * 20, ([1.0] * 4 + [0.0]) * 4, groups[:20])
    assert few.p == 2 / 2**4 and not few.sure


def test_equal_scores_differ_nowhere() -> None:
    found = paired([0.25, 0.5, 1.0], [0.25, 0.5, 1.0], ["a", "b", "c"])
    assert (found.difference, found.low, found.high, found.p, found.won, found.lost) == (
        0,
        0,
        0,
        1,
        0,
        0,
    )


def test_a_drop_is_relative_to_vanilla_and_its_interval_holds_both_sides() -> None:
    found = drop([1, 1, 1, 0, 1], [1, 0, 1, 0, 1], list("abcde"))
    assert found.value == pytest.approx(25.0) and found.low <= 25 <= found.high
    assert np.isnan(drop([0.0, 0.0], [1.0, 0.0], ["a", "b"]).value)


def test_the_ratio_of_two_means_has_the_interval_of_its_linearisation() -> None:
    draws = np.random.default_rng(5)
    vanilla = draws.uniform(0.6, 1.0, 3000)
    method = vanilla * draws.uniform(0.7, 1.1, 3000)
    found = drop(vanilla.tolist(), method.tolist(), [str(i) for i in range(3000)])
    ratio = method.mean() / vanilla.mean()
    error = 100 * (method - ratio * vanilla).std(ddof=1) / vanilla.mean() / np.sqrt(3000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_loyalty_counts_answers_and_flips_count_scores() -> None:
    found = agreement(
        (["A", "b.", "cat", "two"], ["a", "B", "dog", "three"]),
        ([1, 0, 1, 0], [1, 0, 0, 0]),
        list("wxyz"),
    )
    assert (found.loyalty, found.lost, found.won) == (0.5, 0.25, 0.0)
    assert 0 <= found.interval.low <= 0.5 <= found.interval.high <= 1


def test_sums_over_pictures_keep_every_sample() -> None:
    total, size = picture_sums([[1.0, 2.0, 4.0]], ["x", "y", "x"])
    assert total.tolist() == [5.0, 2.0] and size.tolist() == [2.0, 1.0]
    assert estimate(
        [total, size], lambda a, n, axis=-1: a.sum(axis) / n.sum(axis)
    ).value == pytest.approx(7 / 3)


@pytest.mark.parametrize("pictures", [3, 65, 700])
@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_draws_that_are_added_up_by_a_product_are_those_that_are_gathered(
    pictures: int, fraction: float
) -> None:
    """To the bit: whole numbers are exact in single precision, and others are not added so."""
    draw = np.random.default_rng(pictures)
    sums = [fraction * draw.integers(0, 4, pictures) for _ in range(2)]
    sums.append(draw.integers(1, 4, pictures).astype(float))

    def difference(one: np.ndarray, two: np.ndarray, size: np.ndarray, axis: int = -1) -> object:
        return (two.sum(axis) - one.sum(axis)) / size.sum(axis)

    gathered = estimate(sums, difference, draws=600)
    added = estimate(sums, difference, draws=600, additive=True)
    assert np.array_equal(gathered.draws, added.draws)
    assert (gathered.value, gathered.low, gathered.high) == (added.value, added.low, added.high)
