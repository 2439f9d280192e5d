"""A determinantal point process conditioned on the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext, UsageError
from unibench.facts import ModelFacts
from unibench.ops import at_least_float32, cosine, cosine_pairs, quality_determinantal
from unibench.pruning import Family

NO_CLIP = "method.relevance=clip needs the CLIP of the vision tower: model.clip=<folder or hub id>"


@dataclass(frozen=True)
class CDPruner(Method):
    """Keeps the likeliest set of a determinantal point process: relevant to the question and
    diverse.

    The kernel is cosine similarity times the relevance of both tokens; the set is found greedily.

    Paper: CDPruner, NeurIPS 2025, arXiv 2506.10967.
    Code: Theia-4869/CDPruner@9541616c llava/model/llava_arch.py:encode_images.
    Cost: O(N^2 D + K^2 N), N x N and K x N floats.
    Deviations: the official relevance needs the CLIP that the vision tower comes from
        (``model.clip``); elsewhere it is the mean cosine between projected tokens and the
        embeddings of the question, with a plus sign, and the row says cdpruner-adapted. Residuals
        are clamped and picks masked, so ``keep`` distinct tokens come back. One pool for all crops;
        original positions (official: positions=compact).

    Attributes:
        relevance: clip (official), embedding (ours, any model) or auto: clip where the model has
            its CLIP.
        relevance_sign: of the embedding's relevance; CLIP's is official and negative.
    """

    relevance: Literal["auto", "clip", "embedding"] = "auto"
    relevance_sign: Literal[-1, 1] = 1
    text_aware: ClassVar[bool] = True
    corrected = frozenset({"geometry"})
    category = "ViT only"
    aim = "hybrid"

    @property
    def wants(self) -> frozenset[str]:  # type: ignore[override]
        """A CLIP tower, for the official relevance."""
        return frozenset({"clip_tower"} if self.relevance == "clip" else ())

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        return NO_CLIP if self.relevance == "clip" and model.clip is False else None

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(0, self.select, Needs(clip=self.relevance != "embedding", question=True)),)

    def select(self, ctx: StageContext) -> Selection:
        relevance = self.relevance_of(ctx)
        # cosines of the projected tokens; CLIP's space only serves the relevance
        features, preference = ctx.geometry(ctx.visual_hidden)
        return Selection(
            quality_determinantal(cosine_pairs(features), relevance, ctx.keep, preference)
        )

    def relevance_of(self, ctx: StageContext) -> Tensor:
        """Relevance of each visual token to the question, ``[N]``.

        Raises:
            UsageError: CLIP's is asked for, and the model came without its CLIP.
        """
        if self.relevance == "embedding" or (self.relevance == "auto" and ctx.clip is None):
            ctx.note("cdpruner-adapted: relevance from the language model's embeddings")
            question = at_least_float32(ctx.hidden[ctx.question])
            # plus: the inversion is of CLIP's patches, not of a language model's embeddings
            return self.relevance_sign * cosine(ctx.visual_hidden, question).mean(1)
        if ctx.clip is None:
            raise UsageError(NO_CLIP)
        patches, text = ctx.clip()
        return -cosine(patches, text).mean(1)  # the official sign: patches of CLIP are inverted
