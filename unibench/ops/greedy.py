"""Greedy selection: pick the arg-max of a running vector, update the vector with one row, repeat.

Every selector here is :func:`greedy` with its own first vector and its own update: ``O(kN)`` after one
similarity matrix, ties to the lower index, ``k`` distinct picks whatever the rows, no waiting for the device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EXHAUSTED = 1e-6  # share of a token's own gain below which it is noise

Update = Callable[[Tensor, Tensor, int], Tensor]  # running [N], pick [1], step -> running [N]


def greedy(running: Tensor, k: int, update: Update, taken: Tensor | None = None) -> Tensor:
    """The primitive: ``k`` times the arg-max of a vector that each pick changes.

    Args:
        running: ``[N]``, decides the first pick.
        k: at most the number of rows that are free.
        update: the vector that decides the next pick.
        taken: ``[j]`` rows that may not be picked.

    Returns:
        ``[k]`` row indices in the order of the picks.
    """
    picks = torch.empty(k, dtype=torch.long, device=running.device)
    gone = torch.zeros(len(running), dtype=torch.bool, device=running.device)
    if taken is not None:
        gone.index_fill_(0, taken, True)
    for step in range(k):
        pick = running.masked_fill(gone, -torch.inf).argmax()[None]
        picks[step : step + 1] = pick
        gone.index_fill_(0, pick, True)
        if step + 1 < k:
            running = update(running, pick, step)
    return picks


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

    def update(nearest: Tensor, pick: Tensor, step: int) -> Tensor:
        row = apart.index_select(0, pick)[0]
        return row if step == 0 else torch.minimum(nearest, row)

    return greedy(apart.amin(0), k, update)


def farthest(distance: Tensor, k: int, start: Tensor) -> Tensor:
    """Farthest point sampling that goes on from rows already chosen; ``k`` more rows.

    Args:
        distance: ``[N, N]``.
        k: number of rows to add.
        start: ``[j]`` the rows chosen, at least one.
    """

    def update(nearest: Tensor, pick: Tensor, step: int) -> Tensor:
        return torch.minimum(nearest, distance.index_select(0, pick)[0])

    return greedy(distance[start].amin(0), k, update, taken=start)


def mmr(importance: Tensor, similarity: Tensor, k: int, weight: float) -> Tensor:
    """Maximal marginal relevance: ``weight * importance - (1 - weight) * greatest similarity to a pick``.

    Args:
        importance: ``[N]``; decides the first pick alone.
        similarity: ``[N, N]``.
        k: at most N.
        weight: of the importance, in [0, 1].
    """
    closest = torch.full_like(importance, -torch.inf)

    def update(_: Tensor, pick: Tensor, step: int) -> Tensor:
        nonlocal closest
        closest = torch.maximum(closest, similarity.index_select(0, pick)[0])
        return weight * importance - (1 - weight) * closest

    return greedy(importance, k, update)


def rep_max(similarity: Tensor, k: int) -> Tensor:
    """Greedy RepMax: each pick has the smallest mean similarity to the rows picked so far.

    The first pick has the smallest mean similarity to all rows.
    """

    def update(running: Tensor, pick: Tensor, step: int) -> Tensor:
        row = similarity.index_select(0, pick)[0]
        return -row if step == 0 else running - row  # the sum ranks as the mean does

    return greedy(-similarity.mean(1), k, update)


def determinantal(kernel: Tensor, k: int) -> Tensor:
    """Greedy MAP of a determinantal point process, by incremental Cholesky rows (Chen et al. 2018).

    Args:
        kernel: ``[N, N]``, positive semi-definite.
        k: at most N; beyond the kernel's rank the picks follow rounding, but stay distinct.
    """
    factor = kernel.new_zeros(k, len(kernel))
    whole = kernel.diagonal()

    def update(gain: Tensor, pick: Tensor, step: int) -> Tensor:
        own, known = factor[:step].index_select(1, pick), factor[:step]
        row = kernel.index_select(0, pick)[0] - (own * known).sum(0)
        left = gain.index_select(0, pick)
        # what rounding leaves of a token that the picks span already would blow up when divided by its root
        spans = left > EXHAUSTED * whole.index_select(0, pick)
        factor[step] = torch.where(spans, row / left.clamp_min(torch.finfo(left.dtype).tiny).sqrt(), 0)
        return gain - factor[step] ** 2

    return greedy(whole.clone(), k, update)


def coverage(similarity: Tensor, k: int, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Greedy facility location: each pick covers most of what no pick resembles yet.

    Args:
        similarity: ``[N, N]``; negative entries never count.
        k: at most N.
        score: turns the gains in coverage ``[N]`` into what is maximised.
    """
    covered = similarity.new_zeros(len(similarity), 1)

    def gains() -> Tensor:
        return score((similarity - covered).clamp_min_(0).sum(0))

    def update(_: Tensor, pick: Tensor, step: int) -> Tensor:
        nonlocal covered
        covered = torch.maximum(covered, similarity.index_select(1, pick))
        return gains()

    return greedy(gains(), k, update)


def quality_determinantal(similarity: Tensor, relevance: Tensor, k: int) -> Tensor:
    """Greedy MAP of a DPP whose kernel is ``q_i S_ij q_j`` with ``q`` the relevance scaled to (0, 1] (CDPruner).

    Args:
        similarity: ``[N, N]``, cosines.
        relevance: ``[N]``, any scale; constant relevance leaves diversity alone.
        k: at most N.
    """
    low, high = relevance.aminmax()
    spread = high - low
    quality = torch.where(spread > 0, (relevance - low + 1e-6) / spread, torch.ones_like(relevance))
    return determinantal(quality[:, None] * similarity * quality, k)
