"""Greedy maximum coverage of the question's words and of the picture's own tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Positive, Weight
from unibench.ops import at_least_float32, product, unit
from unibench.ops.coverage import coverage
from unibench.ops.similarity import gram

CLOSING = (  # of benchmark prompts: they say how to answer, not what is asked
    "Answer the question using a single word or phrase.",
    "Answer with the option's letter from the given choices directly.",
)
LAST = 10.0  # taken off the gain of padding, which is at most 1 + alpha: it is picked last
_SMALL = """
a an the is are was were be been being have has had do does did it they he she we you i
what where when why how who which and or but so if then question answer
to for with by from at into onto upon
"""
SMALL = frozenset(_SMALL.split())


@dataclass(frozen=True)
class MMTok(Method):
    """Keeps the tokens that together cover the question's words and the picture best.

    A word is covered by the tokens it would pick among all (a sharp softmax of cosines), a token by
    those like it. Greedily, each pick adds most to the sum over words and tokens of the best
    coverage by any pick.

    Paper: MMTok (Multimodal Coverage Maximization), ICLR 2026, arXiv 2508.18264.
    Code: Ironieser/MMTok@d1522cda mmtok/core/semantic_selector.py, mmtok_core.py,
        text_processor.py.
    Finding: the official question is caught by patching conversation templates; a prompt that is
        built otherwise is selected for with "What do you see in this image?".
    Cost: O(N^2 C + m N D) for m words, N x N floats, then the gains that are evaluated: O(K N) and
        more on a CPU, where bounds spare most of them, O(K N^2) on a GPU.
    Deviations: float32 throughout (the official cosines are taken in the model's dtype). Without
        the model's processor words cannot be told apart, and all tokens of the question count; the
        row says so. One pool for all pictures and crops (officially each by itself:
        budget.scope=item or tile), newline tokens first to go. Models without a CLIP tower take the
        Qwen port's temperature, and InternVL the last block's states, ours.

    Attributes:
        text: words (of the question, without small ones and closing phrases: the LLaVA port),
            question (every token: the Qwen port), or auto: words where the tower is a CLIP's.
        alpha: weight of the picture's own tokens.
        text_temperature: None is 0.02 where the tower is a CLIP's, 0.01 elsewhere.
        vision_temperature: of the picture's own tokens.
    """

    text: Literal["auto", "words", "question"] = "auto"
    alpha: Weight = 0.5
    text_temperature: Positive | None = None
    vision_temperature: Positive = 0.2
    text_aware: ClassVar[bool] = True
    data_timed: ClassVar[bool] = True  # how many gains are evaluated depends on the picture
    category = "ViT only"
    aim = "hybrid"

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(0, self.select, Needs(features=True, vit_hidden=(-1,), question=True)),)

    def select(self, ctx: StageContext) -> Selection:
        of_clip = "clip_tower" in ctx.family.provides
        by_default = 0.02 if of_clip else 0.01
        # no temperature is 0, see its range
        sharpness = self.text_temperature or by_default
        layer = ctx.family.feature_layer
        states = unit(ctx.vision.hidden(-1 if layer is None else layer))
        tokens, words = unit(ctx.visual_hidden), unit(self.words(ctx, of_clip))
        # a row for each token that may be picked, a column for each thing to cover
        # softmax over tokens, for each word: which tokens the word would pick
        asked = product(tokens, words.T).div_(sharpness).softmax(0) / max(1, len(words))
        own = gram(states).div_(self.vision_temperature).softmax(0).mul_(self.alpha / len(states))
        barred = None if ctx.padded is None else LAST * ctx.padded

        def score(gain: Tensor, rows: Tensor) -> Tensor:
            return gain if barred is None else gain - barred[rows]

        return Selection(coverage(torch.cat([asked, own], 1), ctx.keep, score))

    def words(self, ctx: StageContext, of_clip: bool) -> Tensor:
        """Embeddings of what the question says, ``[m, D]``."""
        asked = ctx.question_text()
        if asked is None:
            ctx.note("mmtok: all tokens of the question (no processor to tell words)")
            return at_least_float32(ctx.hidden[ctx.question])
        if self.text == "words" or (self.text == "auto" and of_clip):
            # word by word, as the LLaVA port tokenises them
            rows = ctx.family.embedded(content_words(asked).split())
        else:
            # the Qwen port puts this in front
            rows = ctx.family.embedded(f"Question: {asked}")
        return at_least_float32(rows).to(ctx.hidden.device)


def content_words(question: str) -> str:
    """The words of a question without small ones and closing phrases, or all of it if none is left.

    >>> content_words("What is the color of the bus?"), content_words("Where is it?")
    ('color of bus', 'Where is it?')
    """
    for phrase in CLOSING:
        question = question.replace(phrase, "")
    words = [word for word in re.findall(r"\b\w+\b", question) if word.lower() not in SMALL]
    return " ".join(words) or question.strip()
