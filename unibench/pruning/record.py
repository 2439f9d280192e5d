"""What a session writes down about each prompt: its tokens and its times."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from unibench.cost import Clock, Mark
from unibench.diagnostics import TokenScores
from unibench.pruning.layout import Item


@dataclass(frozen=True)
class PromptRecord:
    """What pruning did to one sample.

    Attributes:
        sample: its name.
        text_tokens: tokens of the prompt that are not visual.
        visual_tokens: visual tokens of the prompt.
        processed: visual tokens that entered each decoder layer.
        last: which of them entered the last one, see :func:`packed`.
        items: how the visual tokens lie.
        prompt_digest: a hash of its token ids; empty where the model was given embeddings.
        pixel_digest: a hash of the pixels that the vision tower was given of it; empty without.
        pixel_shapes: of the pixels of each picture or video, as the tower was given them.
        method_macs: half the floating point operations of scoring and choosing, see
            :mod:`unibench.cost.operations`; of the first sample of this shape.
        product_macs: of which multiply-adds of products.
        uncounted: operators of the method that have no formula.
        effective_rank, nearest_cosine, attention: of a session that diagnoses, see
            :class:`unibench.diagnostics.Diagnosis`.
        scores: by which the first cut chose; of a session that keeps them.
    """

    sample: str
    text_tokens: int
    visual_tokens: int
    processed: tuple[int, ...]
    # the choice itself, so that two runs may be compared token by token
    last: str
    items: tuple[Item, ...]
    prompt_digest: str = ""
    pixel_digest: str = ""
    pixel_shapes: tuple[tuple[int, ...], ...] = ()
    # not compared: the count is that of the first sample of its shape, whichever came first
    method_macs: float = field(default=0.0, compare=False)
    product_macs: float = field(default=0.0, compare=False)
    uncounted: tuple[str, ...] = field(default=(), compare=False)
    effective_rank: float | None = field(default=None, compare=False)
    nearest_cosine: float | None = field(default=None, compare=False)
    attention: float | None = field(default=None, compare=False)
    scores: TokenScores | None = field(default=None, compare=False)

    @property
    def kept(self) -> int:
        """Visual tokens that entered the last decoder layer."""
        return self.processed[-1]


def packed(mask: Tensor) -> str:
    """A mask ``[N]`` as text: one bit per token, the first in the highest bit, base64.

    >>> packed(torch.tensor([True, False, False, False, False, False, True, True, True]))
    'g4A='
    """
    # 2,880 tokens take 480 characters, where their indices would take thousands
    return base64.b64encode(np.packbits(mask.cpu().numpy()).tobytes()).decode()


def unpacked(text: str, count: int) -> Tensor:
    """The mask ``[count]`` that :func:`packed` wrote.

    >>> unpacked("g4A=", 9).nonzero()[:, 0].tolist()
    [0, 6, 7, 8]
    """
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=count)
    return torch.from_numpy(bits).bool()


def scored(layer: int, scores: Tensor) -> TokenScores:
    """The scores of a sample's tokens as they are stored.

    Args:
        layer: whose input was cut.
        scores: ``[N]``, NaN where the method was not shown a token, and the least float32 where a
            token must not stay.

    >>> scored(0, torch.tensor([2.0, 4.0, 3.0])).values
    'AAAAPAA4'
    """
    values = scores.detach().double().cpu()
    barred = values <= torch.finfo(torch.float32).min
    known = values[~barred & values.isfinite()]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    # a share of the range, since a score itself may be more than float16 holds
    shares = (values - low) / ((high - low) or 1.0)
    shares[barred] = -torch.inf
    text = base64.b64encode(shares.numpy().astype("<f2").tobytes()).decode()
    # as many digits as float32 has: of an attention map the largest score may be 1e-6
    return TokenScores(layer=layer, low=float(f"{low:.7g}"), high=float(f"{high:.7g}"), values=text)


def shares_of(scores: TokenScores, count: int) -> Tensor:
    """The shares ``[count]`` that :func:`scored` wrote.

    Raises:
        ValueError: there are not that many, or it did not write them.

    >>> shares_of(scored(0, torch.tensor([2.0, 4.0, 3.0])), 3).tolist()
    [0.0, 1.0, 0.5]
    """
    values = np.frombuffer(base64.b64decode(scores.values, validate=True), dtype="<f2")
    if len(values) != count:
        raise ValueError(f"{len(values)} scores for {count} visual tokens")
    return torch.from_numpy(values.astype(np.float32))


@dataclass(frozen=True)
class PrefillTime:
    """Seconds of one prefill. ``prefill`` contains ``vision`` and ``method``.

    Attributes:
        prefill: vision tower, projector, language model and head, up to the first logits.
        vision: of which ``get_image_features`` and ``get_video_features``.
        method: of which scoring, choosing and cutting.
        end: when the first logits were ready.
        excluded: spent on counting operations and on digests, and part of none of the others: who
            times more than a prefill subtracts it.
    """

    prefill: float
    vision: float
    method: float
    end: Mark
    excluded: float = 0.0


Span = tuple[Mark, Mark]


@dataclass
class Spans:
    """Marks of one prefill, read when they are asked for: reading waits for a GPU.

    Attributes:
        forward: of the model.
        vision: calls of the vision tower.
        method: stages of the method in the language model.
        merges: stages inside the vision tower.
        excluded: what is no part of the prompt's answer.
    """

    forward: Span | None = None
    vision: list[Span] = field(default_factory=list)
    method: list[Span] = field(default_factory=list)
    merges: list[Span] = field(default_factory=list)
    excluded: list[Span] = field(default_factory=list)

    def time(self, clock: Clock) -> PrefillTime:
        assert self.forward is not None
        start, end = self.forward
        clock.seconds(start, end)  # waits for the last mark: those before it can be compared then

        def seconds(span: Span) -> float:
            """Of a span, less what is excluded in it."""
            return clock.seconds(*span) - sum(
                clock.seconds(*out)
                for out in self.excluded
                # exclusions lie inside a span or outside of it, never across an edge
                if clock.seconds(span[0], out[0]) >= 0 and clock.seconds(out[1], span[1]) >= 0
            )

        # since transformers 5.17 generate() runs the vision tower before the first forward
        before = sum(seconds(span) for span in self.vision if clock.seconds(span[1], start) >= 0)
        # a merge runs inside a call of the tower: its time is the method's and not the tower's
        vision, method, merges = (
            sum(seconds(span) for span in spans)
            for spans in (self.vision, self.method, self.merges)
        )
        excluded = sum(clock.seconds(*out) for out in self.excluded)
        return PrefillTime(
            before + seconds(self.forward), vision - merges, method + merges, end, excluded
        )
