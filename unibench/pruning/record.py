"""What a session writes down about each prompt: its tokens and its times."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from unibench.cost import Clock, Mark
from unibench.pruning.layout import Item


@dataclass(frozen=True)
class PromptRecord:
    """What pruning did to one sample.

    Attributes:
        sample: its name.
        text_tokens: tokens of the prompt that are not visual.
        visual_tokens: visual tokens of the prompt.
        processed: visual tokens that entered each decoder layer.
        method_macs: multiply-adds of scoring and choosing, see :mod:`unibench.ops.work`; in a
            batch, the mean.
        last: which of them entered the last one, see :func:`packed`.
        items: how the visual tokens lie.
    """

    sample: str
    text_tokens: int
    visual_tokens: int
    processed: tuple[int, ...]
    last: str
    items: tuple[Item, ...]
    method_macs: float = field(default=0.0, compare=False)

    @property
    def kept(self) -> int:
        """Visual tokens that entered the last decoder layer."""
        return self.processed[-1]


def packed(mask: Tensor) -> str:
    """A mask ``[N]`` as text: one bit per token, the first in the highest bit, base64.

    >>> packed(torch.tensor([True, False, False, False, False, False, True, True, True]))
    'g4A='
    """
    return base64.b64encode(np.packbits(mask.cpu().numpy()).tobytes()).decode()


def unpacked(text: str, count: int) -> Tensor:
    """The mask ``[count]`` that :func:`packed` wrote.

    >>> unpacked("g4A=", 9).nonzero()[:, 0].tolist()
    [0, 6, 7, 8]
    """
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=count)
    return torch.from_numpy(bits).bool()


@dataclass(frozen=True)
class PrefillTime:
    """Seconds of one prefill. ``prefill`` contains the other two.

    Attributes:
        prefill: vision tower, projector, language model and head, up to the first logits.
        vision: of which ``get_image_features`` and ``get_video_features``.
        method: of which scoring, choosing and cutting.
        end: when the first logits were ready.
    """

    prefill: float
    vision: float
    method: float
    end: Mark


@dataclass(frozen=True)
class Spans:
    """Marks of one prefill, read when they are asked for: reading waits for a GPU."""

    forward: tuple[Mark, Mark]
    vision: tuple[tuple[Mark, Mark], ...]
    method: tuple[tuple[Mark, Mark], ...]
    merges: tuple[tuple[Mark, Mark], ...]  # of the method, inside the vision tower

    def time(self, clock: Clock) -> PrefillTime:
        start, end = self.forward
        # since transformers 5.17 generate() runs the vision tower before the first forward
        before = sum(
            clock.seconds(*span) for span in self.vision if clock.seconds(span[1], start) >= 0
        )
        vision, method, merges = (
            sum(clock.seconds(*span) for span in spans)
            for spans in (self.vision, self.method, self.merges)
        )
        return PrefillTime(
            before + clock.seconds(start, end), vision - merges, method + merges, end
        )
