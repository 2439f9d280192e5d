"""How much a set of vectors differs in itself."""

from __future__ import annotations

import torch
from torch import Tensor

from unibench.ops.similarity import at_least_float32, cosine


def effective_rank(features: Tensor) -> float:
    """Exponential of the entropy of the singular values of ``features [N, D]``, scaled to a sum of
    1: N equally long orthogonal rows have N, equal rows have 1 (Roy and Vetterli, EUSIPCO 2007).

    >>> round(effective_rank(torch.eye(3)), 6), round(effective_rank(torch.ones(3, 5)), 3)
    (3.0, 1.0)
    """
    values = torch.linalg.svdvals(at_least_float32(features))
    shares = values / values.sum()
    shares = shares[shares > 0]  # 0 log 0 is 0
    return float((-shares * shares.log()).sum().exp()) if len(shares) else 0.0


def nearest_cosine(features: Tensor) -> float | None:
    """Mean over rows of ``features [N, D]`` of the cosine with the row most like it; None of fewer
    than two.

    >>> nearest_cosine(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    0.0
    """
    if len(features) < 2:
        return None
    return float(cosine(features).fill_diagonal_(-torch.inf).amax(1).mean())
