"""Importance against diversity of the tokens that methods keep (IDPruner, arXiv 2602.13315, section
3.2, figure 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unibench.api import build_method
from unibench.ops import cosine
from unibench.pruning import Needs, StageContext
from unibench.pruning.stage import needs_of
from unibench.stats.interval import mean_interval

WEIGHTS = tuple(tenth / 10 for tenth in range(11))
CURVES: Mapping[
    str, tuple[str, tuple[float, ...]]
] = {  # method, and the parameter that leads from diversity to importance
    "greedy_importance": ("", ()),
    "greedy_diversity": ("", ()),
    "dpp": ("", ()),
    "naive_hybrid": ("weight", WEIGHTS),
    "idpruner": ("mmr_lambda", WEIGHTS),
}


@dataclass(frozen=True)
class Node:
    """A method with its parameters: one point of the plot.

    Attributes:
        method: its name.
        weight: of the importance, None where the method has none.
    """

    method: str
    weight: float | None

    def parameters(self, importance: str) -> dict[str, float | str]:
        """Arguments of the method under a source of importance."""
        name, _ = CURVES[self.method]
        given: dict[str, float | str] = (
            {} if self.method == "greedy_diversity" else {"importance": importance}
        )
        return {**given, **({name: self.weight} if self.weight is not None else {})}


def nodes() -> list[Node]:
    """Every point of the plot."""
    return [
        Node(method, weight)
        for method, (_, weights) in CURVES.items()
        for weight in weights or (None,)
    ]


def importance_retention(importance: Tensor, kept: Tensor) -> float:
    """``I(S)``: the share of all importance ``[N]``, which is not negative, that the tokens ``kept
    [K]`` hold.
    """
    return float(importance[kept].sum() / importance.sum())


def hopkins(similarity: Tensor, kept: Tensor, generator: torch.Generator) -> float:
    """``H(S) = A / (A + B)``: how far the tokens in S lie from each other, beside how far others
    lie from them.

    A sums the cosine distance from points outside S to the nearest of S, B that from members of S
    to the nearest other member. Half means that S is spread like the rest; more, that S is in
    clumps and leaves gaps. As many points as members are drawn, without repeats, as far as there
    are that many; otherwise as many members as there are points outside. The paper does not say
    where its points come from: here they are tokens that were not kept, since a box in thousands of
    dimensions has no meaning under cosine.

    Args:
        similarity: cosine of all tokens, ``[N, N]``.
        kept: ``[K]`` indices, at least two, and not all.
        generator: draws the points.

    Returns:
        A number in [0, 1]; NaN where it is not defined.
    """
    distance = 1 - similarity
    outside = torch.ones(len(distance), dtype=torch.bool)
    outside[kept] = False
    rest = outside.nonzero()[:, 0]
    count = min(len(kept), len(rest))
    if len(kept) < 2 or not count:
        return float("nan")
    points = rest[torch.randperm(len(rest), generator=generator)[:count]]
    members = kept[torch.randperm(len(kept), generator=generator)[:count]]
    gaps = distance[points][:, kept].min(1).values.clamp_min(0).sum()
    inside = distance[members][:, kept].masked_fill(members[:, None] == kept[None, :], torch.inf)
    spread = inside.min(1).values.clamp_min(0).sum()
    return float(gaps / (gaps + spread))


def needs(importance: str) -> Needs:
    """What the methods of the plot want recorded."""
    return needs_of(
        [
            stage
            for node in nodes()
            for stage in build_method(node.method, **node.parameters(importance)).stages(1)
        ]
    )


def measure(contexts: Iterable[StageContext], importance: str = "random") -> pd.DataFrame:
    """One line per picture and point: ``method, weight, picture, importance, hopkins``.

    Args:
        contexts: of distinct pictures, each with its budget.
        importance: where it comes from; ``"random"`` draws U(0, 1) for each token, as the paper's
            simulation does.
    """
    found = []
    methods = {node: build_method(node.method, **node.parameters(importance)) for node in nodes()}
    source = build_method("greedy_importance", importance=importance)
    for ctx in contexts:
        weights, similarity = source.score(ctx), cosine(ctx.visual_hidden)
        weights = weights - weights.min().clamp_max(0)  # trained scores may be negative
        for node, method in methods.items():
            selection = method.select(ctx)
            assert selection is not None
            spread = hopkins(similarity, selection.keep.sort().values, ctx.generator())
            retention = importance_retention(weights, selection.keep)
            found.append(
                {**vars(node), "picture": ctx.sample, "importance": retention, "hopkins": spread}
            )
    return pd.DataFrame(found)


def summary(lines: pd.DataFrame) -> pd.DataFrame:
    """Mean over pictures with 95 % intervals for each point, in the order of :data:`CURVES`."""
    found = []
    for (method, weight), group in lines.groupby(["method", "weight"], dropna=False, sort=False):
        entry: dict[str, object] = {"method": method, "weight": weight, "pictures": len(group)}
        for name in ("importance", "hopkins"):
            interval = mean_interval(group[name].tolist(), group["picture"].tolist())
            entry |= {
                name: group[name].mean(),
                f"{name}_low": interval.low,
                f"{name}_high": interval.high,
            }
        found.append(entry)
    return pd.DataFrame(found)


def dominated(points: pd.DataFrame, by: str, whom: str) -> tuple[int, int]:
    """How many inner points of one curve lie below the front of another.

    A point is dominated if the other curve, read linearly between its points, has at its importance
    a smaller Hopkins statistic. The ends, which both curves share, are left out.

    Returns:
        Points dominated, points compared.
    """
    front = points[points["method"] == by].sort_values("importance")
    curve = points[(points["method"] == whom) & points["weight"].between(0.01, 0.99)]
    inside = curve[
        curve["importance"].between(front["importance"].min(), front["importance"].max())
    ]
    held = np.interp(inside["importance"], front["importance"], front["hopkins"])
    return int((held < inside["hopkins"].to_numpy()).sum()), len(inside)
