"""Coverage: greedy facility location, evaluating few gains where a look at the device is free."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from unibench.ops.greedy import greedy
from unibench.ops.pairs import Pairs, reduced, rows_of
from unibench.ops.work import did

AT_ONCE = 16  # gains evaluated together
LOWEST = np.finfo(
    np.float32
).min  # a bound below it is minus infinity: picked, or evaluated in this step
SLACK = 1e-5  # rounding of a gain: bounds this close below the best gain are evaluated too


def coverage(similarity: Pairs, k: int, score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Greedy facility location: each pick covers most of what no pick resembles yet.

    Gains only fall, so a gain from an earlier step bounds the present one. On a CPU only tokens
    whose bound reaches the best present gain are evaluated (Minoux 1978); how many depends on the
    data. On a GPU, where looking at values would halt the queue, all are.

    Args:
        similarity: ``[N, T]``, how much each row covers of each of T things; negative entries never
            count. A matrix that is computed on demand is symmetric.
        k: at most N.
        score: ``(gains [n], rows [n]) -> [n]`` what is maximised; must not fall when a gain grows.
    """
    first = reduced(similarity, lambda block: block.clamp_min(0).sum(1))
    things = similarity.shape[1] if isinstance(similarity, Tensor) else len(similarity)
    covered = first.new_zeros(things)
    everything = torch.arange(len(first), device=first.device)

    def gains(rows: Tensor) -> Tensor:
        return score(rows_of(similarity, rows).sub_(covered).clamp_min_(0).sum(1), rows)

    def all_gains(_: Tensor) -> Tensor:
        return torch.cat([gains(part) for part in everything.split(256)])

    at_once = min(AT_ONCE, len(first))
    bound, gone = score(first, everything), torch.zeros_like(everything, dtype=torch.bool)

    def few_gains(_: Tensor) -> Tensor:
        # numpy's calls take a third of torch's time on a few thousand numbers
        did(0)  # and only compare
        bounds, best = bound.detach().numpy(), -np.inf
        stale = np.where(gone.numpy(), -np.inf, bounds)
        while True:
            rows = np.argpartition(stale, -at_once)[-at_once:]
            # what was evaluated in this step is minus infinity in stale, and exact in bounds
            rows = rows[stale[rows] >= max(best - SLACK * abs(best), LOWEST)]
            if not len(rows):
                return bound
            found = gains(torch.from_numpy(rows)).detach().numpy()
            bounds[rows], stale[rows] = found, -np.inf
            best = max(best, found.max())

    refresh = few_gains if first.device.type == "cpu" else all_gains

    def update(running: Tensor, pick: Tensor, step: int) -> Tensor:
        nonlocal covered
        # from 0 on: what no pick covers counts nothing, and a negative entry neither
        covered = torch.maximum(covered, rows_of(similarity, pick)[0])
        gone.index_fill_(0, pick, True)
        return refresh(running)

    return greedy(bound, k, update)
