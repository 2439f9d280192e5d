"""The greedy independent set: what non-maximum suppression keeps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unibench.ops.topk import ranking


def independent(conflict: Tensor, score: Tensor) -> Tensor:
    """``[N]`` True on each row, by falling score, that conflicts with none taken before; equal
    scores by rising index.

    On a CPU rows are taken one after the other. On a GPU every row whose conflicts of higher score
    are all decided is decided at once, which needs few rounds and one look at values in each.

    Args:
        conflict: ``[N, N]``, symmetric; the diagonal is not read.
        score: ``[N]``.

    >>> near = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).bool()
    >>> independent(near, torch.tensor([3.0, 2.0, 1.0]))
    tensor([ True, False,  True])
    """
    decide = _one_by_one if conflict.device.type == "cpu" else _in_rounds
    return decide(conflict, ranking(score))


def _in_rounds(conflict: Tensor, order: Tensor) -> Tensor:
    rank = order.argsort()
    earlier = conflict & (rank[None] < rank[:, None])
    taken = torch.zeros_like(order, dtype=torch.bool)
    undecided = ~taken
    while bool(undecided.any()):
        first = undecided & ~(earlier & undecided[None]).any(1)
        taken |= first
        undecided &= ~(first | (conflict & first[None]).any(1))
    return taken


def _one_by_one(conflict: Tensor, order: Tensor) -> Tensor:
    rows = conflict.numpy()
    taken, blocked = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    for row in order.tolist():
        if not blocked[row]:
            taken[row] = True
            np.logical_or(blocked, rows[row], out=blocked)
    return torch.from_numpy(taken)
