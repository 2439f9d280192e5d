"""Selections written down plainly, with the complexity of the official code or, where none is
published, of the paper.

They are what the fast ones are compared with, in time and in picks; nothing else uses them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import linear


def max_min(distance: Tensor, k: int) -> list[int]:
    """DivPrune: every step takes the minimum over all rows picked so far anew, ``O(K^2 N)``."""
    nearest_other = distance.topk(2, dim=0, largest=False).values[1]
    picks = [int(nearest_other.argmax())]
    for _ in range(k - 1):
        picks.append(int(distance[torch.tensor(picks)].amin(0).argmax()))
    return picks


def farthest(distance: Tensor, k: int) -> list[int]:
    """AngelSlim's DivPrune: the least distance is carried along, ``O(K N)``; a copy is masked,
    columns are read.
    """
    picks = [int(distance.clone().fill_diagonal_(torch.inf).amin(1).argmax())]
    closest = distance[:, picks[0]].clone()
    for _ in range(k - 1):
        value = closest.clone()
        value[torch.tensor(picks)] = -1.0
        picks.append(int(value.argmax()))
        closest = torch.minimum(closest, distance[:, picks[-1]])
    return picks


def rep_max(similarity: Tensor, k: int) -> list[int]:
    """TrimTokenator, equations 9 to 16: the sum of similarities is carried along, ``O(K N)``."""
    free = torch.ones(len(similarity), dtype=torch.bool)
    picks = [int(similarity.mean(1).argmin())]
    total = similarity[picks[0]].clone()
    for step in range(1, k):
        free[picks[-1]] = False
        picks.append(int((total / step).masked_fill(~free, torch.inf).argmin()))
        total = total + similarity[picks[-1]]
    return picks


def mmr(importance: Tensor, similarity: Tensor, k: int, weight: float) -> list[int]:
    """IDPruner: the greatest similarity is carried along, ``O(K N)``; columns are read."""
    free, closest, picks = (
        torch.ones(len(importance), dtype=torch.bool),
        torch.full_like(importance, -2.0),
        [],
    )
    for step in range(k):
        value = importance.clone() if step == 0 else weight * importance - (1 - weight) * closest
        value[~free] = -torch.inf
        picks.append(int(value.topk(1).indices))
        free[picks[-1]] = False
        closest = torch.maximum(closest, similarity[:, picks[-1]])
    return picks


def determinantal(kernel: Tensor, k: int) -> list[int]:
    """CDPruner: orthogonalised rows, each against all before, ``O(K^2 N)``."""
    rows, gain, picks = torch.zeros(k, len(kernel)), kernel.diagonal().clone(), []
    for step in range(k):
        pick = int(gain.argmax())
        picks.append(pick)
        rows[step] = (
            kernel[pick] - torch.einsum("t,tn->n", rows[:step, pick], rows[:step])
        ) / gain[pick].sqrt()
        gain -= rows[step] ** 2
        gain[pick] = -torch.inf
    return picks


def coverage(similarity: Tensor, saliency: Tensor, k: int) -> list[int]:
    """SCOPE: every step forms the gains of all tokens anew, without the columns of those picked,
    ``O(K N^2)``.
    """
    covered, gone, picks = (
        torch.zeros(len(similarity)),
        torch.zeros(len(similarity), dtype=torch.bool),
        [],
    )
    for _ in range(k):
        more = torch.maximum(torch.zeros(1), similarity.masked_fill(gone, 0) - covered[:, None])
        gain = more.sum(0) * saliency
        picks.append(int(gain.masked_fill(gone, -torch.inf).argmax()))
        gone[picks[-1]] = True
        covered = torch.maximum(covered, similarity[picks[-1]])
    return picks


def thinned(features: Tensor, attention: Tensor, k: int) -> list[int]:
    """VisPruner: every step normalises and multiplies the two halves of what is left anew, ``O(N^3
    D / 96)``.
    """
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
    """G-Prune: a power of the whole transition matrix, ``O(N^3 log steps)``."""
    flow = (similarity / temperature).masked_fill(similarity < edge, -torch.inf).softmax(-1)
    score: Tensor = mass @ torch.linalg.matrix_power(flow, steps) / (flow > 0).sum(-1)
    return score


def agreement(features: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """VisionSelector: queries of all tokens times keys of all tokens, ``O(N D h + N^2 h)``."""
    query, key = (
        linear(features, weights[f"{side}_proj.weight"], weights[f"{side}_proj.bias"])
        for side in "qk"
    )
    mean: Tensor = (query @ key.T / query.shape[1] ** 0.5).mean(-1)
    return mean
