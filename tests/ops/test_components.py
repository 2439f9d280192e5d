"""Principal components against the singular value decomposition."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from unibench.ops import components

MODULE = sys.modules["unibench.ops.components"]


def falling(count: int, width: int, rank: int) -> Tensor:
    """Rows whose singular values fall as the root of their number does."""
    g = torch.Generator().manual_seed(0)
    weight = torch.arange(1, rank + 1) ** -0.5
    left = torch.randn(count, rank, generator=g) * weight
    return left @ torch.randn(rank, width, generator=g)


def alignment(x: Tensor, found: Tensor) -> Tensor:
    """Cosine of each component with the singular vector, whatever its sign."""
    vectors = torch.linalg.svd(x.double(), full_matrices=False).U[:, : found.shape[1]]
    return (vectors * found.double()).sum(0).abs()


@pytest.mark.parametrize("exact", [True, False])
def test_components_are_the_singular_vectors(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = falling(300, 120, 100)
    monkeypatch.setattr(MODULE, "EXACT", 1024 if exact else 0)
    found = components(x, 12)
    assert found.dtype == torch.float32
    assert float(alignment(x, found).min()) > 0.999
    assert torch.equal(found, components(x, 12))


@pytest.mark.parametrize("exact", [True, False])
def test_what_a_smaller_rank_does_not_have_is_zero(
    exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = falling(100, 50, 5)
    monkeypatch.setattr(MODULE, "EXACT", 1024 if exact else 0)
    found = components(x, 9)
    assert float(alignment(x, found[:, :5]).min()) > 0.999
    assert not found[:, 5:].any()
    assert not components(torch.zeros(20, 4), 3).any()
