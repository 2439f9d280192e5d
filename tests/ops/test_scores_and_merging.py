"""Top-k, scales, shares and merging."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unibench import ops

quick = settings(max_examples=50, deadline=None)
numbers = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20)


@quick
@given(numbers, st.data())
def test_top_k_takes_the_highest_and_ties_go_to_the_lower_index(
    values: list[float], data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, len(values)))
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert ops.top_k(torch.tensor(values), k).tolist() == sorted(order[:k])
    assert ops.ranks(torch.tensor(values)).tolist() == [order.index(i) for i in range(len(values))]


@quick
@given(st.integers(1, 20), st.data())
def test_a_set_and_its_complement_are_everything(count: int, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, count - 1), unique=True))
    rest = ops.complement(torch.tensor(chosen, dtype=torch.long), count).tolist()
    assert rest == sorted(set(range(count)) - set(chosen))


@quick
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(0.01, 0.99))
def test_soft_top_k_sums_to_k_and_keeps_the_order(values: list[float], share: float) -> None:
    scores = torch.tensor(values, dtype=torch.float64)
    soft = ops.soft_top_k(scores, share * len(values))
    assert float(soft.sum()) == pytest.approx(share * len(values), rel=1e-6)
    assert (soft[scores.argsort()].diff() >= -1e-12).all()


@quick
@given(st.integers(0, 100), st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_shares_are_whole_fair_and_complete(total: int, sizes: list[int]) -> None:
    total = min(total, sum(sizes))
    parts = ops.shares(total, sizes)
    assert sum(parts) == total
    for part, size in zip(parts, sizes, strict=True):
        assert 0 <= part <= size
        assert abs(part - total * size / sum(sizes)) < 1


@quick
@given(st.integers(1, 30), st.data())
def test_spaced_places_are_distinct_and_inside(length: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, length))
    places = ops.spaced(count, length)
    assert places == sorted(set(places))
    assert len(places) == count
    assert places[0] >= 0
    assert places[-1] < length


@quick
@given(numbers)
def test_min_max_reaches_both_ends_unless_all_are_equal(values: list[float]) -> None:
    scaled = ops.min_max(torch.tensor(values))
    assert float(scaled.min()) == 0
    assert float(scaled.max()) == (1 if len(set(values)) > 1 else 0)


@quick
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40))
def test_outliers_lie_above_the_quartile_rule(values: list[float]) -> None:
    low, high = np.percentile(np.array(values, dtype=np.float64), [25, 75])
    expected = np.array(values, dtype=np.float64) > high + 1.5 * (high - low)
    assert ops.outliers(torch.tensor(values, dtype=torch.float64)).tolist() == expected.tolist()


@quick
@given(st.integers(2, 30), st.data())
def test_bipartite_matching_partitions_the_tokens(count: int, data: st.DataObject) -> None:
    protect = data.draw(st.booleans())
    merges = data.draw(st.integers(0, (count - protect) // 2))
    metric = torch.randn(count, 5, generator=torch.Generator().manual_seed(count))
    match = ops.bipartite(metric, merges, protect)
    rows = count - merges
    assert len(match.anchor) == rows == len(set(match.anchor.tolist()))
    assert torch.equal(
        match.slot[match.anchor], torch.arange(rows)
    )  # each row holds the token it stands for
    assert not protect or int((match.slot == match.slot[0]).sum()) == 1
    weights = ops.mean_weights(match.slot, rows, torch.ones(count))
    torch.testing.assert_close(weights.sum(1), torch.ones(rows))
    assert int((weights > 0).sum()) == count


def test_neighbours_are_the_most_similar_and_never_the_row_itself() -> None:
    keys = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    attention = torch.rand(12, generator=torch.Generator().manual_seed(1))
    rows = torch.tensor([3, 7])
    weights = ops.nearest_weights(keys, rows, 5, attention)
    for line, row in zip(weights, rows.tolist(), strict=True):
        likeness = ops.cosine(keys)[row]
        likeness[row] = -2
        near = likeness.topk(5).indices
        expected = torch.zeros(12)
        expected[near] = attention[near]
        expected[row] = 1
        torch.testing.assert_close(line, expected)


def test_everything_is_float32_at_least_and_float64_stays() -> None:
    half = torch.randn(6, 4).bfloat16()
    assert (
        ops.cosine(half).dtype
        == ops.euclidean(half, half).dtype
        == ops.unit(half).dtype
        == torch.float32
    )
    assert (
        ops.cosine(half.double()).dtype
        == ops.euclidean(half.double(), half.double()).dtype
        == torch.float64
    )


def test_mutual_information_equals_that_of_scikit_learn() -> None:
    regression = pytest.importorskip("sklearn.feature_selection").mutual_info_regression
    g = np.random.default_rng(0)
    x = g.normal(size=(5, 40))
    y = np.stack([x[0] * 0.8 + g.normal(size=40) * 0.3, g.normal(size=40)])
    expected = np.stack([regression(x.T, row, n_neighbors=3, random_state=0) for row in y], 1)
    np.testing.assert_allclose(
        ops.mutual_information(torch.from_numpy(x), torch.from_numpy(y)).numpy(),
        expected,
        atol=1e-6,
    )
