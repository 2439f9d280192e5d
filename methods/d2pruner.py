"""Debiased attention picks pivots, an independent set of the rest adds variety."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Behind, Cosine, Share
from unibench.methods import _prior
from unibench.ops import complement, cosine, independent, ranking, top_k

if TYPE_CHECKING:
    from unibench.facts import ModelFacts
    from unibench.pruning import Family

EPS = 1e-7
REACH = 2  # rows and columns within which edges=either joins tokens


@dataclass(frozen=True)
class D2Pruner(Method):
    """Keeps the tokens that text attends to more than to their place, and unlike ones of the rest.

    The attention of the last prompt token is divided by the model's positional prior, the mean of
    that attention over many pictures. The highest are pivots; from the others a greedy independent
    set of the graph of similar tokens is taken, the highest first, and then the best of what it
    left out.

    Paper: D2Pruner (Debiased importance and structural Diversity), AAAI 2026, arXiv 2512.19443.
    Code: none that could be had (EvelynZhang-epiclab/D2Pruner); the equations as quoted from the
        paper, and anonymous733882/q-cal-submission@69167eea baselines/d2pruner/adapter.py, a
        third party's port; its selection.py is edges=either.
    Finding: the ports disagree about pivots, edges and features, and rows called D2Pruner are not
        of one method. The exact forms of the spatial similarity are in no text found, so that the
        fusion weight is 1, the paper's value for understanding tasks.
    Cost: O(N^2 D), N x N floats, after one row of attention.
    Deviations: float32; original positions. A grid that the prior has not seen takes the nearest
        one, resampled in two dimensions, and the row says so.

    Attributes:
        prior: file of the positional prior, from ``calibrate method=d2pruner``; ``random:<seed>``
            exists for tests.
        pivot_ratio: share of the budget for pivots.
        threshold: cosine of the hidden states above which two tokens are alike.
        edges: semantic (alike), or either (alike, or near each other on a square grid; pivots
            rounded), a third party's reading.
        layer: the decoder layer whose input is cut; at least 1.
    """

    prior: str | None = None
    pivot_ratio: Share = 0.7
    threshold: Cosine = 0.8
    edges: Literal["semantic", "either"] = "semantic"
    layer: Behind = 2
    text_aware: ClassVar[bool] = True
    data_timed: ClassVar[bool] = True  # on a GPU the rounds of the set depend on the picture
    calibrated = "required"
    category = "LLM only"
    aim = "hybrid"

    def __post_init__(self) -> None:
        super().__post_init__()
        _prior.check(self.prior, "d2pruner")

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        return _prior.missing("d2pruner") if self.prior is None else None

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(self.layer, self.select, Needs(llm_attention=(self.layer - 1,))),)

    def score(self, ctx: StageContext) -> Tensor:
        assert self.prior is not None
        # the prior was measured on the same row: last prompt token, mean over heads
        attention = ctx.attention(ctx.layer - 1)[:, 0].mean(0)
        return attention / (_prior.load(self.prior).at(ctx).to(attention) + EPS)

    def select(self, ctx: StageContext) -> Selection:
        if self.edges == "either":
            ctx.note("d2pruner: a third party's reading of the graph")
        score, features = self.score(ctx), ctx.visual_hidden
        share = self.pivot_ratio * ctx.keep
        number = round(share) if self.edges == "either" else int(share)
        # at least one, as in the port that quotes the equations
        pivots = top_k(score, min(max(1, number), ctx.keep))
        rest = complement(pivots, len(score))
        # strict; pivots are not in the graph and bar nobody, so that a token like one may stay
        alike = cosine(features[rest]) > self.threshold
        if self.edges == "either":
            alike |= _near(rest, len(score))
        order = ranking(score[rest])
        apart = independent(alike, score[rest])[order]
        order = order[ranking(apart.to(score))]  # the set first, then what it left out
        return Selection(torch.cat([pivots, rest[order[: ctx.keep - len(pivots)]]]))


def _near(rows: Tensor, count: int) -> Tensor:
    """``[n, n]`` whether tokens are near on the smallest square grid that holds ``count``."""
    side = math.isqrt(count - 1) + 1 if count else 1
    down, across = rows // side, rows % side
    return ((down[:, None] - down[None]).abs() <= REACH) & (
        (across[:, None] - across[None]).abs() <= REACH
    )
