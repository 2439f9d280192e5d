"""The greedy selectors against their definitions, recomputed from scratch at every pick."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.asymmetric import AsymmetricProducts
from unibench import ops
from unibench.ops import similarity

quick = settings(max_examples=30, deadline=None)


@st.composite
def rows(draw: st.DrawFn, most: int = 12) -> Tensor:
    """Feature rows of small whole numbers: ties and duplicates are common."""
    count, width = draw(st.integers(1, most)), draw(st.integers(1, 4))
    cells = draw(st.lists(st.integers(-2, 2), min_size=count * width, max_size=count * width))
    return torch.tensor(cells, dtype=torch.float64).view(count, width)


def distinct(picks: Tensor, k: int) -> bool:
    return len(picks) == k == len(set(picks.tolist()))


@quick
@given(rows(), st.data())
def test_every_selector_gives_distinct_picks_whatever_the_rows(
    x: Tensor, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(x)))
    likeness, importance = ops.cosine(x), x.sum(1)
    found = [
        ops.max_min(1 - likeness, k),
        ops.mmr(importance, likeness, k, 0.5),
        ops.rep_max(likeness, k),
        ops.determinantal(likeness, k),
        ops.quality_determinantal(likeness, importance, k),
        ops.coverage(likeness, k, lambda gain, rows: gain * importance.abs()[rows]),
    ]
    for picks in found:
        assert distinct(picks, k)
    start = torch.tensor([len(x) - 1])
    more = ops.farthest(1 - likeness, len(x) - 1, start)
    assert distinct(torch.cat([start, more]), len(x))


@quick
@given(rows(), st.data())
def test_fewer_picks_are_the_first_of_more(x: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(x)))
    likeness = ops.cosine(x)
    for select in (
        lambda n: ops.max_min(1 - likeness, n),
        lambda n: ops.rep_max(likeness, n),
        lambda n: ops.determinantal(likeness, n),
    ):
        assert torch.equal(select(len(x))[:k], select(k))


@pytest.mark.parametrize("seed", range(5))
def test_running_vectors_equal_the_definitions(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x, importance = (
        torch.randn(24, 8, generator=g, dtype=torch.float64),
        torch.rand(24, generator=g, dtype=torch.float64),
    )
    likeness = ops.cosine(x)
    apart = (1 - likeness).fill_diagonal_(torch.inf)

    def slow(k: int, value: object) -> list[int]:
        picks: list[int] = []
        for _ in range(k):
            scores = torch.tensor(
                [-torch.inf if i in picks else float(value(i, picks)) for i in range(24)]
            )  # type: ignore[operator]
            picks.append(int(scores.argmax()))
        return picks

    max_min = slow(9, lambda i, s: apart[i].min() if not s else (1 - likeness)[i, s].min())
    assert ops.max_min(1 - likeness, 9).tolist() == max_min
    relevance = slow(
        9, lambda i, s: importance[i] if not s else 0.3 * importance[i] - 0.7 * likeness[i, s].max()
    )
    assert ops.mmr(importance, likeness, 9, 0.3).tolist() == relevance
    assert ops.rep_max(likeness, 9).tolist() == slow(
        9, lambda i, s: -likeness[i].mean() if not s else -likeness[i, s].mean()
    )
    volume = slow(8, lambda i, s: torch.logdet(likeness[[*s, i]][:, [*s, i]]))
    assert ops.determinantal(likeness, 8).tolist() == volume

    def covered(chosen: list[int]) -> Tensor:
        return likeness[:, chosen].amax(1).clamp_min(0).sum() if chosen else torch.zeros(())

    # two tokens that cover each other gain the same: the importance breaks the tie
    gained = slow(9, lambda i, s: (covered([*s, i]) - covered(s)) * importance[i])
    assert ops.coverage(likeness, 9, lambda gain, rows: gain * importance[rows]).tolist() == gained


def test_max_min_is_at_least_half_as_spread_as_the_best_set() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(10, 2, generator=g, dtype=torch.float64)
    apart = ops.euclidean(x, x)

    def spread(chosen: list[int]) -> float:
        return min(float(apart[a, b]) for a in chosen for b in chosen if a < b)

    best = max(spread(torch.combinations(torch.arange(10), 4)[i].tolist()) for i in range(210))
    assert spread(ops.max_min(apart, 4).tolist()) >= best / 2


def selectors(likeness: Tensor, importance: Tensor, k: int) -> list[Tensor]:
    return [
        ops.max_min(1 - likeness, k),
        ops.farthest(1 - likeness, k, torch.arange(2, device=likeness.device)),
        ops.mmr(importance, likeness, k, 0.5),
        ops.rep_max(likeness, k),
        ops.quality_determinantal(likeness, importance, k),
        ops.coverage(likeness, k, lambda gain, rows: gain * importance[rows]),
    ]


def test_off_the_cpu_no_selector_looks_at_a_value() -> None:
    x = torch.empty(
        30, 8, device="meta"
    )  # has no values: reading one, for which a GPU would halt, is an error
    with pytest.raises(RuntimeError):
        int(x.argmax())
    assert [picks.shape for picks in selectors(ops.cosine(x), x.sum(1), 5)] == [(5,)] * 6


def test_picks_are_distinct_also_where_features_are_not_numbers() -> None:
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    x[[3, 7]] = torch.nan
    for picks in selectors(ops.cosine(x), x.nan_to_num().sum(1), 10)[:4]:
        assert distinct(picks, 10)


@pytest.mark.parametrize("strip", [5, 100], ids=["in strips", "whole"])
def test_a_gram_matrix_is_the_product_and_symmetric_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, strip: int
) -> None:
    x = torch.randn(23, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    monkeypatch.setattr(similarity, "STRIP", strip)
    with AsymmetricProducts():
        found, plain = similarity.gram(x), x @ x.T
    assert not torch.equal(plain, plain.T), "the product itself must not be symmetric here"
    assert torch.equal(found, found.T)
    assert torch.allclose(found, plain, rtol=1e-12, atol=1e-12)


def test_a_gram_matrix_in_strips_computes_little_more_than_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.randn(23, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    monkeypatch.setattr(similarity, "STRIP", 5)
    with ops.counted() as work:
        similarity.gram(x)
    assert 23 * 23 * 8 / 2 < work.macs < 23 * 23 * 8 * 0.65
