"""Greedy selection: pick the arg-max of a running vector, update the vector with one row, repeat."""

from __future__ import annotations

import torch
from torch import Tensor


def max_min(distance: Tensor, k: int) -> Tensor:
    """Greedy max-min diversity: each pick is the row farthest from the rows picked so far.

    The first pick is the row whose nearest other row is farthest. ``k`` distinct rows are returned,
    also where fewer rows differ; ties go to the lower index.

    Args:
        distance: ``[N, N]``, symmetric; the diagonal is not read.
        k: at most N.

    Returns:
        ``[k]`` row indices in the order of the picks.

    >>> max_min(torch.tensor([[0.0, 1, 9], [1, 0, 8], [9, 8, 0]]), 2)
    tensor([2, 0])
    """
    apart = distance.clone().fill_diagonal_(torch.inf)
    picks = torch.empty(k, dtype=torch.long, device=distance.device)
    nearest = apart.amin(0)
    if k and len(apart) == 1:
        return picks.zero_()
    for i in range(k):
        pick = nearest.argmax()
        picks[i] = pick
        row = apart.index_select(0, pick[None])[0]
        nearest = row.clone() if i == 0 else torch.minimum(nearest, row)
        nearest[picks[: i + 1]] = -torch.inf
    return picks
