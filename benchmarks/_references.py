"""Selections written down as their definitions say, with the complexity of the official codes.

They are what the fast ones are compared with, in time and in picks; nothing else uses them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def max_min(distance: Tensor, k: int) -> list[int]:
    """DivPrune: every step takes the minimum over all rows picked so far anew, ``O(K^2 N)``."""
    nearest_other = distance.topk(2, dim=0, largest=False).values[1]
    picks = [int(nearest_other.argmax())]
    for _ in range(k - 1):
        picks.append(int(distance[torch.tensor(picks)].amin(0).argmax()))
    return picks


def rep_max(similarity: Tensor, k: int) -> list[int]:
    """TrimTokenator: every step takes the mean over all rows picked so far anew, ``O(K^2 N)``."""
    picks = [int(similarity.mean(1).argmin())]
    for _ in range(k - 1):
        mean = similarity[torch.tensor(picks)].mean(0)
        mean[torch.tensor(picks)] = torch.inf
        picks.append(int(mean.argmin()))
    return picks


def mmr(importance: Tensor, similarity: Tensor, k: int, weight: float) -> list[int]:
    """IDPruner: the greatest similarity is carried along, ``O(K N)``."""
    free, closest, picks = torch.ones(len(importance), dtype=torch.bool), torch.full_like(importance, -1.0), []
    for step in range(k):
        value = importance if step == 0 else weight * importance - (1 - weight) * closest
        picks.append(int(torch.where(free, value, -torch.inf).argmax()))
        free[picks[-1]] = False
        closest = torch.maximum(closest, similarity[picks[-1]])
    return picks


def determinantal(kernel: Tensor, k: int) -> list[int]:
    """CDPruner: orthogonalised rows, each against all before, ``O(K^2 N)``."""
    rows, gain, picks = torch.zeros(k, len(kernel)), kernel.diagonal().clone(), []
    for step in range(k):
        pick = int(gain.argmax())
        picks.append(pick)
        rows[step] = (kernel[pick] - torch.einsum("t,tn->n", rows[:step, pick], rows[:step])) / gain[pick].sqrt()
        gain -= rows[step] ** 2
        gain[pick] = -torch.inf
    return picks


def coverage(similarity: Tensor, saliency: Tensor, k: int) -> list[int]:
    """SCOPE: every step forms the gains of all tokens anew, ``O(K N^2)``."""
    covered, picks = torch.zeros(len(similarity)), []
    for _ in range(k):
        gain = (torch.maximum(similarity, covered[:, None]) - covered[:, None]).sum(0) * saliency
        gain[picks] = -torch.inf
        picks.append(int(gain.argmax()))
        covered = torch.maximum(covered, similarity[:, picks[-1]])
    return picks


def thinned(features: Tensor, attention: Tensor, k: int) -> list[int]:
    """VisPruner: every step normalises and multiplies the two halves of what is left anew, ``O(N^3 D / 96)``."""
    order = attention.argsort(descending=True, stable=True)
    important, rest = order[: k // 2], order[k // 2 :]
    while len(rest) > k - len(important):
        gone = min(8, len(rest) - k + len(important), len(rest) // 2)
        ours, others = rest[0::2], rest[1::2]
        a, b = (torch.nn.functional.normalize(features[half], dim=-1) for half in (ours, others))
        doubled = (a @ b.T).amax(1)
        rest = torch.cat([ours[doubled.argsort(descending=True, stable=True)][gone:], others])
    return [*important.tolist(), *rest.tolist()]


def flow(similarity: Tensor, mass: Tensor, edge: float, temperature: float, steps: int) -> Tensor:
    """G-Prune: a power of the whole transition matrix, ``O(N^3)``."""
    flow = (similarity / temperature).masked_fill(similarity < edge, -torch.inf).softmax(-1)
    power = flow
    for _ in range(steps - 1):
        power = power @ flow
    score: Tensor = mass @ power / (flow > 0).sum(-1)
    return score


def agreement(features: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """VisionSelector: queries of all tokens times keys of all tokens, ``O(N D h + N^2 h)``."""
    scores = (features @ query.T) @ (features @ key.T).T / query.shape[0] ** 0.5
    mean: Tensor = scores.mean(-1)
    return mean
