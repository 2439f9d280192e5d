"""The greedy independent set, one row after the other and in rounds."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from unibench.ops import independent, ranking

MODULE = sys.modules["unibench.ops.independent"]


def drawn(seed: int, density: float) -> tuple[Tensor, Tensor]:
    """Random conflicts of 80 rows, and scores with ties."""
    g = torch.Generator().manual_seed(seed)
    conflict = torch.rand(80, 80, generator=g) < density
    return conflict | conflict.T, torch.randint(0, 20, (80,), generator=g).float()


@pytest.mark.parametrize("density", [0.0, 0.01, 0.1, 1.0])
def test_the_set_is_independent_and_no_row_of_higher_score_could_be_added(density: float) -> None:
    conflict, score = drawn(0, density)
    taken = independent(conflict, score)
    conflict.fill_diagonal_(False)
    rank = ranking(score).argsort()
    assert not conflict[taken][:, taken].any()
    for row in (~taken).nonzero()[:, 0]:  # each is blocked by a taken row in front of it
        assert (conflict[row] & taken & (rank < rank[row])).any()


@pytest.mark.parametrize("density", [0.01, 0.05, 0.3])
def test_rounds_decide_as_rows_one_by_one_do(
    density: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        conflict, score = drawn(seed, density)
        expected = independent(conflict, score)
        with monkeypatch.context() as patch:
            patch.setattr(MODULE, "_one_by_one", MODULE._in_rounds)
            assert torch.equal(independent(conflict, score), expected)
