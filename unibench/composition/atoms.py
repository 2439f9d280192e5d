"""The parts of methods, each a frozen dataclass of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench.ops import (
    complement,
    cosine,
    cosine_pairs,
    max_min,
    membership,
    min_max,
    mmr,
    product,
    top_k,
)
from unibench.pruning import Needs, StageContext

Kind = Literal["score", "combine", "select", "budget", "merge", "schedule"]


@dataclass(frozen=True)
class Atom:
    """A part of a method.

    Class attributes:
        kind: where in an expression it may stand.
        needs: what must be recorded for it.
        text_aware: whether it reads the question.
        layer_wise: whether it reads the decoder layer before the cut, so that the cut must come
            behind one.
    """

    kind: ClassVar[Kind]
    needs: ClassVar[Needs] = Needs()
    text_aware: ClassVar[bool] = False
    layer_wise: ClassVar[bool] = False


class Score(Atom):
    """A number for each token: the higher, the more it matters."""

    kind = "score"

    def score(self, ctx: StageContext) -> Tensor:
        """``[N]``, float32."""
        raise NotImplementedError


@dataclass(frozen=True)
class Norm(Score):
    """The length of the projected features."""

    def score(self, ctx: StageContext) -> Tensor:
        length: Tensor = ctx.visual_hidden.norm(dim=-1)
        return length


@dataclass(frozen=True)
class Saliency(Score):
    """What the vision tower attends to."""

    needs = Needs(saliency=True)

    def score(self, ctx: StageContext) -> Tensor:
        return ctx.saliency()


@dataclass(frozen=True)
class Attention(Score):
    """What the last prompt token attends to in the layer before the cut, mean over heads."""

    text_aware = True
    layer_wise = True

    def score(self, ctx: StageContext) -> Tensor:
        return ctx.attention(ctx.layer - 1)[:, 0].mean(0)


@dataclass(frozen=True)
class Question(Score):
    """The cosine to the mean of the instruction."""

    text_aware = True

    def score(self, ctx: StageContext) -> Tensor:
        asked = ctx.hidden[ctx.instruction].float().mean(0)
        return cosine(ctx.visual_hidden, asked[None])[:, 0]


@dataclass(frozen=True)
class Apart(Score):
    """How unlike the mean of all tokens a token is."""

    def score(self, ctx: StageContext) -> Tensor:
        states = ctx.visual_hidden
        return -cosine(states, states.mean(0)[None])[:, 0]


@dataclass(frozen=True)
class Drawn(Score):
    """A draw for each token."""

    def score(self, ctx: StageContext) -> Tensor:
        # on the CPU: a GPU's generator gives other numbers from the same seed
        drawn = torch.rand(len(ctx.visual), generator=ctx.generator())
        return drawn.to(ctx.visual.device)


class Combine(Atom):
    """One score of several."""

    kind = "combine"

    def combine(self, scores: Sequence[Tensor]) -> Tensor:
        """``[N]``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Weighted(Combine):
    """The sum of scores scaled to [0, 1], the first by ``first``, the others sharing the rest."""

    first: float = 0.5

    def combine(self, scores: Sequence[Tensor]) -> Tensor:
        scaled = [min_max(score, eps=1e-6) for score in scores]
        if len(scaled) == 1:
            return scaled[0]
        others = torch.stack(scaled[1:]).mean(0)
        return self.first * scaled[0] + (1 - self.first) * others


@dataclass(frozen=True)
class Product(Combine):
    """The product of scores scaled to [0, 1]."""

    def combine(self, scores: Sequence[Tensor]) -> Tensor:
        return torch.stack([min_max(score, eps=1e-6) for score in scores]).prod(0)


class Select(Atom):
    """A choice of so many tokens."""

    kind = "select"

    def select(self, ctx: StageContext, score: Tensor | None, keep: int) -> Tensor:
        """``[keep]`` indices.

        Args:
            ctx: of the sample.
            score: of each token, ``[N]``; None where the expression has none.
            keep: how many.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class TopK(Select):
    """The highest scores."""

    def select(self, ctx: StageContext, score: Tensor | None, keep: int) -> Tensor:
        return top_k(_wanted(score, "top_k"), keep)


@dataclass(frozen=True)
class MaxMin(Select):
    """Tokens whose smallest cosine distance to each other is greatest; reads no score."""

    def select(self, ctx: StageContext, score: Tensor | None, keep: int) -> Tensor:
        return max_min(cosine_pairs(ctx.visual_hidden, distance=True), keep)


@dataclass(frozen=True)
class Mmr(Select):
    """Maximal marginal relevance: ``weight`` of the score against the likeness to the chosen."""

    weight: float = 0.5

    def select(self, ctx: StageContext, score: Tensor | None, keep: int) -> Tensor:
        scaled = min_max(_wanted(score, "mmr"), eps=1e-6)
        return mmr(scaled, cosine_pairs(ctx.visual_hidden), keep, self.weight)


def _wanted(score: Tensor | None, name: str) -> Tensor:
    assert score is not None, f"select: {name} needs a score"  # refused when it was parsed
    return score


class Budget(Atom):
    """How many tokens the choice gets, and how many stand evenly among the rest."""

    kind = "budget"

    def even(self, keep: int) -> int:
        """Tokens of the budget that are not chosen but evenly spaced."""
        return 0


@dataclass(frozen=True)
class Whole(Budget):
    """All of it is chosen."""


@dataclass(frozen=True)
class Split(Budget):
    """A share of it is evenly spaced, at least one token."""

    share: float = 10 / 64

    def even(self, keep: int) -> int:
        return min(max(1, round(keep * self.share)), keep)


class Merge(Atom):
    """New states of the kept tokens."""

    kind = "merge"

    def merge(self, ctx: StageContext, chosen: Tensor, even: Tensor) -> Tensor | None:
        """``[len(chosen) + len(even), D]``; None leaves them as they are."""
        return None


@dataclass(frozen=True)
class Drop(Merge):
    """What does not stay is gone."""


@dataclass(frozen=True)
class Contextual(Merge):
    """Every token that does not stay joins the evenly spaced one with the most similar key of the
    vision tower; their mean is added to it.
    """

    needs = Needs(saliency=True, features=True)

    def merge(self, ctx: StageContext, chosen: Tensor, even: Tensor) -> Tensor | None:
        features, project = ctx.encoder_features()
        keys = ctx.vision.keys(ctx.family.saliency_layer).mean(1)
        others = complement(torch.cat([chosen, even]), len(keys))
        gathered = features[even]
        if len(others) and len(even):
            nearest = cosine(keys[others], keys[even]).argmax(1)
            joins = membership(nearest, len(even), torch.ones_like(others)).to(features)
            size = joins.sum(1, keepdim=True).clamp_min(1)
            gathered = gathered + product(joins, features[others]) / size
        return torch.cat([ctx.visual_hidden[chosen], project(gathered)])


class Schedule(Atom):
    """Where tokens go."""

    kind = "schedule"

    def cut(self) -> int:
        """The decoder layer whose input is cut."""
        return 0


@dataclass(frozen=True)
class Before(Schedule):
    """In front of the language model."""


@dataclass(frozen=True)
class Behind(Schedule):
    """In front of a decoder layer."""

    layer: int = 2

    def cut(self) -> int:
        return self.layer


ATOMS: Mapping[Kind, Mapping[str, type[Atom]]] = {
    "score": {
        "norm": Norm, "saliency": Saliency, "attention": Attention, "question": Question,
        "apart": Apart, "drawn": Drawn,
    },
    "combine": {"weighted": Weighted, "product": Product},
    "select": {"top_k": TopK, "max_min": MaxMin, "mmr": Mmr},
    "budget": {"whole": Whole, "split": Split},
    "merge": {"drop": Drop, "contextual": Contextual},
    "schedule": {"before": Before, "behind": Behind},
}  # fmt: skip
