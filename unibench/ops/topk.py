"""Top-k with a tie rule that does not depend on the device, and its smooth relative."""

from __future__ import annotations

import torch
from torch import Tensor

HALVINGS = 64


def top_k(scores: Tensor, k: int) -> Tensor:
    """Indices of the ``k`` highest scores, ascending; equal scores go to the lower index.

    Args:
        scores: ``[N]``.
        k: at most N.

    Returns:
        ``[k]`` sorted indices.

    >>> import torch
    >>> top_k(torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0]), 3)
    tensor([1, 2, 3])
    """
    return ranking(scores)[:k].sort().values


def ranking(scores: Tensor) -> Tensor:
    """Indices ``[..., N]`` by falling score along the last axis; equal scores by rising index."""
    # torch.topk leaves the order of equal scores to the device
    return scores.argsort(dim=-1, descending=True, stable=True)


def ranks(scores: Tensor) -> Tensor:
    """Place of each score in :func:`ranking`, along the last axis.

    >>> ranks(torch.tensor([1.0, 3.0, 2.0, 3.0]))
    tensor([3, 0, 2, 1])
    """
    return ranking(scores).argsort(dim=-1)


def places_within(slot: Tensor, order: Tensor, groups: int) -> Tensor:
    """Place of each row among those of its group, ``[N]``, in an order of all rows.

    Args:
        slot: ``[N]`` the group of each row.
        order: ``[N]`` the rows, first ones first.
        groups: their number; some may be empty.

    >>> places_within(torch.tensor([0, 1, 0, 1]), torch.tensor([3, 2, 0, 1]), 2)
    tensor([1, 1, 0, 0])
    """
    by_group = order[slot[order].argsort(stable=True)]
    size = torch.zeros(groups, dtype=torch.long, device=slot.device)
    size = size.index_add(0, slot, torch.ones_like(slot))
    first = size.cumsum(0) - size
    row = torch.arange(len(slot), device=slot.device)
    return torch.empty_like(slot).index_copy(0, by_group, row - first[slot[by_group]])


def complement(indices: Tensor, count: int) -> Tensor:
    """The indices below ``count`` that are not among distinct ``indices``, ascending.

    >>> complement(torch.tensor([2, 0]), 4)
    tensor([1, 3])
    """
    taken = torch.zeros(count, dtype=torch.long, device=indices.device).index_fill_(0, indices, 1)
    # the number is known, so nothing waits for a GPU as nonzero() would
    return taken.argsort(stable=True)[: count - len(indices)]


def soft_top_k(scores: Tensor, k: float) -> Tensor:
    """``sigmoid(scores + t)`` with the shift ``t`` that makes the sum ``k`` (DiffTopK), by
    bisection.

    Args:
        scores: ``[N]``.
        k: the sum, between 0 and N; need not be whole.
    """
    # bounds and number of halvings are those of VisionSelector's code
    low, high = -scores.max() - 10, -scores.min() + 10
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_many = torch.sigmoid(scores + middle).sum() > k
        low, high = torch.where(too_many, low, middle), torch.where(too_many, middle, high)
    return torch.sigmoid(scores + (low + high) / 2)
