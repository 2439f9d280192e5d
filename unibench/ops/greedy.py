"""Greedy selection: pick the arg-max of a running vector, update the vector with one row, repeat.

Every selector here is :func:`greedy` with its own first vector and its own update: ``O(kN)`` after
one similarity matrix, ties to the lower index, ``k`` distinct picks whatever the rows, no waiting
for the device. A step of a few thousand numbers costs what its calls cost, so updates work in place
where they can; on a GPU one kernel can take the place of a whole loop
(:mod:`unibench.ops.one_kernel`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unibench.ops.kernels import at_once
from unibench.ops.pairs import Pairs, diagonal, nearest, reduced, rows_of
from unibench.ops.work import did, product

EXHAUSTED = 1e-6  # share of a token's own gain below which it is noise

Update = Callable[[Tensor, Tensor, int], Tensor]  # running [N], pick [1], step -> running [N]


def greedy(running: Tensor, k: int, update: Update, taken: Tensor | None = None) -> Tensor:
    """The primitive: ``k`` times the arg-max of a vector that each pick changes.

    Args:
        running: ``[N]``, decides the first pick.
        k: at most the number of rows that are free.
        update: the vector that decides the next pick, to be written to: what is picked becomes
            minus infinity.
        taken: ``[j]`` rows that may not be picked.

    Returns:
        ``[k]`` row indices in the order of the picks.
    """
    before = 0 if taken is None else len(taken)
    gone = torch.empty(before + k, dtype=torch.long, device=running.device)
    if taken is not None:
        gone[:before] = taken
        running = running.index_fill(0, taken, -torch.inf)
    # numpy's arg-max takes a tenth of torch's time on a CPU, and breaks ties alike
    places = gone.numpy() if running.device.type == "cpu" else None
    did(0)  # an arg-max compares only
    for step in range(k):
        now = before + step + 1
        pick = gone[now - 1 : now]
        if places is None:
            torch.argmax(running, 0, keepdim=True, out=pick)
        else:
            places[now - 1] = running.detach().numpy().argmax()
        if step + 1 < k:
            # all picks again: not every update leaves minus infinity alone
            running = update(running, pick, step).index_fill_(0, gone[:now], -torch.inf)
    return gone[before:]


def max_min(distance: Pairs, k: int, preference: Tensor | None = None) -> Tensor:
    """Greedy max-min diversity: each pick is the row farthest from the rows picked so far.

    The first pick is the row whose nearest other row is farthest. ``k`` distinct rows are returned,
    also where fewer rows differ; ties go to the lower index.

    Args:
        distance: ``[N, N]``, symmetric; the diagonal is not read.
        k: at most N.
        preference: ``[N]`` what distances are multiplied by, from the second pick on; None is 1.

    Returns:
        ``[k]`` row indices in the order of the picks.

    >>> max_min(torch.tensor([[0.0, 1, 9], [1, 0, 8], [9, 8, 0]]), 2)
    tensor([2, 0])
    """
    if (picks := at_once("max_min", distance, k, preference)) is not None:
        return picks

    def update(closest: Tensor, pick: Tensor, step: int) -> Tensor:
        row = rows_of(distance, pick)[0]
        return row if step == 0 else torch.minimum(closest, row, out=closest)

    if preference is None:
        return greedy(nearest(distance), k, update)
    smallest = torch.full_like(preference, torch.inf)

    def preferred(_: Tensor, pick: Tensor, step: int) -> Tensor:
        torch.minimum(smallest, rows_of(distance, pick)[0], out=smallest)
        return preference * smallest

    return greedy(nearest(distance), k, preferred)


def farthest(distance: Pairs, k: int, start: Tensor) -> Tensor:
    """Farthest point sampling that goes on from rows already chosen; ``k`` more rows.

    Args:
        distance: ``[N, N]``, symmetric.
        k: number of rows to add.
        start: ``[j]`` the rows chosen, at least one.
    """
    if (picks := at_once("farthest", distance, k, start)) is not None:
        return picks

    def update(closest: Tensor, pick: Tensor, step: int) -> Tensor:
        return torch.minimum(closest, rows_of(distance, pick)[0], out=closest)

    return greedy(rows_of(distance, start).amin(0), k, update, taken=start)


def mmr(importance: Tensor, similarity: Pairs, k: int, weight: float) -> Tensor:
    """Maximal marginal relevance: ``weight * importance - (1 - weight) * greatest similarity to a
    pick``.

    Args:
        importance: ``[N]``; decides the first pick alone.
        similarity: ``[N, N]``, symmetric.
        k: at most N.
        weight: of the importance, in [0, 1].
    """
    if (picks := at_once("mmr", similarity, k, importance, weight)) is not None:
        return picks
    closest, value, relevant = (
        torch.full_like(importance, -torch.inf),
        torch.empty_like(importance),
        weight * importance,
    )

    def update(_: Tensor, pick: Tensor, step: int) -> Tensor:
        torch.maximum(closest, rows_of(similarity, pick)[0], out=closest)
        return torch.sub(relevant, torch.mul(closest, 1 - weight, out=value), out=value)

    return greedy(importance, k, update)


def rep_max(similarity: Pairs, k: int) -> Tensor:
    """Greedy RepMax: each pick has the smallest mean similarity to the rows picked so far.

    The first pick has the smallest mean similarity to all rows.
    """
    if (picks := at_once("rep_max", similarity, k)) is not None:
        return picks

    def update(running: Tensor, pick: Tensor, step: int) -> Tensor:
        row = rows_of(similarity, pick)[0]
        return row.neg_() if step == 0 else running.sub_(row)  # the sum ranks as the mean does

    return greedy(-reduced(similarity, lambda block: block.mean(1)), k, update)


def determinantal(kernel: Pairs, k: int, quality: Tensor | None = None) -> Tensor:
    """Greedy MAP of a determinantal point process, by incremental Cholesky rows (Chen et al. 2018).

    Args:
        kernel: ``[N, N]``, positive semi-definite.
        k: at most N; beyond the kernel's rank the picks follow rounding, but stay distinct.
        quality: ``[N]``; then the kernel is ``quality_i kernel_ij quality_j``.
    """
    if (picks := at_once("determinantal", kernel, k, quality)) is not None:
        return picks
    # the diagonal is the gain of a token alone, d_i = L_ii
    whole = diagonal(kernel) if quality is None else quality * diagonal(kernel) * quality
    factor, least, nothing = whole.new_empty(k, len(whole)), EXHAUSTED * whole, whole.new_zeros(())

    def update(gain: Tensor, pick: Tensor, step: int) -> Tensor:
        row = rows_of(kernel, pick)[0]
        row = row if quality is None else row.mul_(quality.index_select(0, pick)).mul_(quality)
        before, now = factor[:step], factor[step]
        row.sub_(product(before.index_select(1, pick).T, before)[0])
        left = gain.index_select(0, pick)
        # what rounding leaves of a token that the picks span already would blow up when divided by
        # its root
        spans = left > least.index_select(0, pick)
        torch.where(
            spans, row.div_(left.clamp_min_(torch.finfo(left.dtype).tiny).sqrt_()), nothing, out=now
        )
        # d_i^2 -= e_i^2 of Chen et al.
        return gain.sub_(now.square())

    return greedy(whole.clone(), k, update)


def quality_determinantal(
    similarity: Pairs, relevance: Tensor, k: int, preference: Tensor | None = None
) -> Tensor:
    """Greedy MAP of a DPP whose kernel is ``q_i S_ij q_j`` with ``q`` the relevance scaled to (0,
    1] (CDPruner).

    Args:
        similarity: ``[N, N]``, cosines.
        relevance: ``[N]``, any scale; constant relevance leaves diversity alone.
        k: at most N.
        preference: ``[N]`` what ``q`` is multiplied by; None is 1.
    """
    low, high = relevance.aminmax()
    spread = high - low
    # 1e-6 in the numerator alone, as in CDPruner's code: the greatest is a little above 1
    quality = torch.where(spread > 0, (relevance - low + 1e-6) / spread, torch.ones_like(relevance))
    return determinantal(similarity, k, quality if preference is None else quality * preference)
