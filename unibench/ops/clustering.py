"""Clusters around the points that are both dense and far from denser ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unibench.ops.similarity import euclidean


@dataclass(frozen=True)
class Clusters:
    """How ``n`` rows fall into clusters.

    Attributes:
        centre: ``[clusters]`` the row at the middle of each, by falling score.
        slot: ``[n]`` the cluster of each row.
    """

    centre: Tensor
    slot: Tensor


def density_peaks(x: Tensor, clusters: int, neighbours: int) -> Clusters:
    """DPC-kNN: density peaks clustering with the density of the nearest neighbours.

    The distance is Euclidean over the root of the width. A row's density is ``exp`` of minus the
    mean squared distance to its nearest rows, itself among them; its separation is the distance to
    the nearest denser row. Mutual nearest neighbours have equal densities; official codes add noise
    to part them, here the lower index counts as denser.

    Args:
        x: ``[n, D]``.
        clusters: at most n.
        neighbours: rows in the density, itself included; at most n.

    >>> found = density_peaks(torch.tensor([[0.0], [1.0], [8.0], [9.0], [11.0]]), 2, 2)
    >>> found.centre.tolist(), found.slot.tolist()
    ([0, 2], [0, 0, 1, 1, 1])
    """
    x = x.float()
    upper = euclidean(x, x).triu(1)
    distance = (upper + upper.T) * x.shape[
        1
    ] ** -0.5  # d(i, j) and d(j, i) are the same bits, so ties are ties
    density = (-distance.sort(dim=-1).values[:, :neighbours].square().mean(-1)).exp()
    row = torch.arange(len(x), device=x.device)
    denser = (density[None] > density[:, None]) | (
        (density[None] == density[:, None]) & (row[None] < row[:, None])
    )
    nearest = distance.masked_fill(~denser, torch.inf).amin(-1)
    separation = torch.where(denser.any(-1), nearest, distance.max())
    centre = (separation * density).argsort(descending=True, stable=True)[:clusters]
    slot = distance[:, centre].argmin(-1)
    slot[centre] = torch.arange(len(centre), device=x.device)
    return Clusters(centre, slot)
