"""Rows on demand, lazy coverage and remembered neighbours answer as the plain computations do."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from unibench import ops

pairs = importlib.import_module("unibench.ops.pairs")  # a function of the name hides it


def picture(count: int = 90, width: int = 24, seed: int = 0) -> Tensor:
    """Rows in clusters, some of them twice."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(9, width, generator=g, dtype=torch.float64)
    x = centres[torch.arange(count) * 9 // count] + 0.3 * torch.randn(
        count, width, generator=g, dtype=torch.float64
    )
    x[count // 2 : count // 2 + 3] = x[:3]
    return x


@pytest.mark.parametrize("seed", range(3))
def test_rows_on_demand_give_the_picks_of_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    x, weight = (
        picture(seed=seed),
        torch.rand(90, generator=torch.Generator().manual_seed(seed), dtype=torch.float64),
    )
    start = torch.tensor([4, 7])

    def picks() -> list[Tensor]:
        likeness, distance = ops.cosine_pairs(x), ops.cosine_pairs(x, distance=True)
        return [
            ops.max_min(distance, 20),
            ops.farthest(distance, 20, start),
            ops.mmr(weight, likeness, 20, 0.5),
            ops.rep_max(likeness, 20),
            ops.quality_determinantal(likeness, weight, 20),
            ops.coverage(likeness, 20, lambda gain, rows: gain * weight[rows]),
        ]

    whole = picks()
    monkeypatch.setattr(pairs, "DENSE_BYTES", 0)
    monkeypatch.setattr(pairs, "BLOCK", 7)
    assert isinstance(ops.cosine_pairs(x), pairs.OnDemand)
    for few, all_at_once in zip(picks(), whole, strict=True):
        assert torch.equal(few, all_at_once)


def test_lazy_coverage_picks_what_evaluating_everything_picks() -> None:
    for seed in range(4):
        x = picture(seed=seed)
        likeness, weight = (
            ops.cosine(x),
            torch.rand(90, generator=torch.Generator().manual_seed(seed), dtype=torch.float64),
        )
        covered, expected = torch.zeros(90, dtype=torch.float64), []
        for _ in range(40):
            gain = (likeness - covered).clamp_min(0).sum(1) * weight
            gain[expected] = -torch.inf
            expected.append(int(gain.argmax()))
            covered = torch.maximum(covered, likeness[expected[-1]])
        with ops.counted() as work:
            found = ops.coverage(
                likeness, 40, lambda gain, rows, weight=weight: gain * weight[rows]
            )
        assert found.tolist() == expected
        # a gain is a difference and a sum; most were not looked at
        assert 0 < work.flops < 2 * 40 * 90 * 90 / 2


def test_the_closest_of_a_changing_set_is_the_greatest_entry() -> None:
    likeness = ops.cosine(picture())
    closest, g = ops.Closest(likeness), torch.Generator().manual_seed(1)
    for size in (80, 40, 10, 2):
        mixed = torch.randperm(90, generator=g)[:size]
        ours, others = mixed[::2], mixed[1::2]
        assert torch.equal(closest.among(ours, others), likeness[ours][:, others].amax(1))
