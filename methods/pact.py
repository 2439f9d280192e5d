"""Unimportant tokens go, and like ones are merged by density peaks within a distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext, UsageError
from unibench.annotations import Natural, Positive, Some, Weight
from unibench.ops import complement, independent, membership, pairs, product, top_k, unit
from unibench.ops.similarity import gram
from unibench.pruning.attention import attention_rows

HALVINGS = 30  # of the search of the cutoff
FARTHEST = 2.0  # cosine distance


@dataclass(frozen=True)
class PACT(Method):
    """Keeps one mean of each group of like tokens, after the least important ones have gone.

    Importance is the attention that the mean query of the picture gives to a token, times the
    length of its state. Of what is left, tokens are taken by falling density unless one within the
    cutoff was taken before; each other token joins the nearest. Tokens that had gone come back into
    a group if they are near enough.

    Paper: PACT, CVPR 2025, arXiv 2504.08966.
    Code: orailix/PACT@cf9a0c9f transformers/PACT/utils.py,
        transformers/models/qwen2/modeling_qwen2.py:Qwen2Model.forward, configs/pact.json.
    Finding: with ``cutoff`` and ``share`` the number kept follows from the picture (released: 0.21
        and 0.55 for LLaVA-OneVision-7B, 0.1 and 0.8 for Qwen2-VL-7B); averages over layers are what
        its tables compare. The released attention mask depends on the backend.
    Cost: projections of one layer once more, O(T D^2); O(n^2 d) for n tokens left, n x n floats.
    Deviations: with a budget (ours) the share that importance keeps is the root of the budget's,
        the cutoff is the smallest that leaves at most ``keep`` groups, and the most important
        tokens of groups become groups of their own until there are ``keep``. Newline tokens go
        first with a budget; without one they stay, as officially. Equal densities by lower index.

    Attributes:
        cutoff: cosine distance of keys within which tokens are merged; with ``share``, instead of
            the budget.
        share: of the tokens that importance keeps.
        width: of the bell that a like token adds to a density.
        recover: distance, in cutoffs, within which a token that had gone joins a group.
        layer: the decoder layer whose input is cut.
        weighted: whether later attention, of the prompt and of the answer, counts a group as often
            as it has tokens; no flash kernel can, official codes run sdpa.
    """

    cutoff: Weight | None = None
    share: Some | None = None
    width: Positive = 2.0
    recover: Weight = 1.5
    layer: Natural = 4
    weighted: bool = True
    centres: ClassVar[bool] = True
    category = "LLM only"
    aim = "hybrid"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.cutoff is None) != (self.share is None):
            raise UsageError("pact wants both method.cutoff and method.share, or neither")

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        """With a cutoff the picture decides how many tokens stay."""
        return self.cutoff is not None

    @property
    def uses_budget(self) -> bool:
        return self.cutoff is None

    def stages(self, depth: int) -> Sequence[Stage]:
        count = (lambda keep, total: total) if self.adaptive else None
        return (
            Stage(
                self.layer,
                self.select,
                Needs(entering=True),
                count,
                exact=not self.adaptive,
                weighted=self.weighted,
            ),
        )

    def select(self, ctx: StageContext) -> Selection | None:
        patches, separators = (mask.nonzero()[:, 0] for mask in (~ctx.separators, ctx.separators))
        if self.cutoff is None:
            # newlines stay only where the budget exceeds all patches
            separators = separators[: max(0, ctx.keep - len(patches))]
            if ctx.keep >= len(patches):
                return Selection(torch.cat([patches, separators]))
        if not self.weighted:
            ctx.note("pact: groups weigh as one token in later attention (officially as many)")
        score, states = self.score(ctx)[patches], ctx.visual_hidden[patches]
        # keys after the rotation, all heads in one vector, are what distances are between
        keys = unit(ctx.keys(ctx.layer)[:, patches].transpose(0, 1).flatten(1))
        share = (ctx.keep / len(patches)) ** 0.5 if self.share is None else self.share
        alive = top_k(score, max(1, int(len(patches) * share)))
        apart = (1 - gram(keys[alive])).clamp_(0, FARTHEST)
        # in float32 the order of summation would decide between nearly equal densities
        density = (apart / self.width).square_().neg_().exp_().sum(1, dtype=torch.float64)
        if self.cutoff is None:
            cutoff, centre = _smallest(apart, density, ctx.keep)
        else:
            cutoff, centre = self.cutoff, independent(apart <= self.cutoff, density)
        # groups of one make the number up: the most important tokens that are no centres
        missing = 0 if self.cutoff is not None else ctx.keep - int(centre.sum())
        alone = top_k(score[alive].masked_fill(centre, -torch.inf), missing)
        middles = alive[centre]
        joining = complement(torch.cat([middles, alive[alone]]), len(patches))
        distance = (1 - product(keys[joining], keys[middles].T)).clamp_min_(0)
        nearest, slot = distance.min(1)
        # what importance dropped comes back if it is near; survivors join whatever the distance
        lost = torch.ones_like(score, dtype=torch.bool).index_fill_(0, alive, False)[joining]
        near = ~lost | (nearest <= self.recover * cutoff)
        inside = membership(slot, len(middles), near.to(states))
        sums = states[middles] + product(inside, states[joining])
        sizes = 1 + inside.sum(1)
        means = sums / sizes[:, None]
        unchanged = torch.cat([patches[alive[alone]], separators])
        return Selection(
            torch.cat([patches[middles], unchanged]),
            torch.cat([means, ctx.visual_hidden[unchanged]]),
            torch.cat([sizes, sizes.new_ones(len(unchanged))]) if self.weighted else None,
            lambda: pairs(inside, patches[joining], patches[middles]),
        )

    def score(self, ctx: StageContext) -> Tensor:
        """Attention of the mean query up to the last picture, times the length of the state."""
        # all rows up to the last picture, system prompt and newlines included
        rows = len(ctx.hidden) - len(ctx.instruction)
        qk = ctx.unrotated()
        # before the rotation: a mean of rotated queries would have no position
        asked = qk.query[:, :rows].mean(1, keepdim=True)
        seen = attention_rows(asked, qk.key[:, :rows], qk.scaling)[:, 0].mean(0)
        important: Tensor = seen[ctx.visual] * ctx.visual_hidden.norm(dim=-1)
        return important


def _smallest(apart: Tensor, density: Tensor, keep: int) -> tuple[float, Tensor]:
    """The smallest cutoff that leaves at most ``keep`` centres, by bisection, and which."""
    low, high = 0.0, FARTHEST
    best = independent(apart <= high, density)
    # the number of centres falls as the cutoff grows
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        centre = independent(apart <= middle, density)
        if int(centre.sum()) <= keep:
            high, best = middle, centre
        else:
            low = middle
    return high, best
