"""Mutual information of two continuous variables, by nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from unibench.ops.similarity import at_least_float32


def mutual_information(x: Tensor, y: Tensor, neighbours: int = 3) -> Tensor:
    """Kraskov's estimate for all pairs of rows of ``x [N, D]`` and ``y [M, D]``, in nats, ``[N,
    M]``.

    Each row is one variable, its ``D`` entries are the observations. As scikit-learn's
    ``mutual_info_regression``, without its noise of relative size 1e-10: rows are scaled to unit
    deviation, the ``neighbours``-th distance in the maximum norm counts the points closer in each
    variable, and negative estimates are zero. ``O(N M D^2)``.
    """
    dtype = at_least_float32(x).dtype
    x, y = (
        side.double() / side.double().std(1, correction=0, keepdim=True).clamp_min(1e-300)
        for side in (x, y)
    )
    size = x.shape[1]
    count = min(neighbours, size - 1)
    base = torch.digamma(
        torch.tensor([float(size), float(count)], dtype=x.dtype, device=x.device)
    ).sum()
    apart_y = (y[:, :, None] - y[:, None, :]).abs()  # [M, D, D]
    found = x.new_empty(len(x), len(y))
    # row by row: all pairs at once would take N M D^2 numbers
    for i, row in enumerate(x):
        apart_x = (row[:, None] - row[None, :]).abs()
        joint = torch.maximum(apart_x, apart_y)
        radius = joint.kthvalue(count + 1, dim=-1).values[
            ..., None
        ]  # the nearest is the point itself
        closer = [
            (apart < radius).sum(-1).clamp_min(1) for apart in (apart_x, apart_y)
        ]  # itself included
        found[i] = base - sum(torch.digamma(number.to(x.dtype)).mean(-1) for number in closer)
    return found.clamp_min(0).to(dtype)
