"""What a session writes down about each prompt: its tokens and its times."""

from __future__ import annotations

from dataclasses import dataclass

from unibench.cost import Clock, Mark


@dataclass(frozen=True)
class PromptRecord:
    """What pruning did to one sample.

    Attributes:
        sample: its name.
        text_tokens: tokens of the prompt that are not visual.
        visual_tokens: visual tokens of the prompt.
        processed: visual tokens that entered each decoder layer.
    """

    sample: str
    text_tokens: int
    visual_tokens: int
    processed: tuple[int, ...]

    @property
    def kept(self) -> int:
        """Visual tokens that entered the last decoder layer."""
        return self.processed[-1]


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
        before = sum(clock.seconds(*span) for span in self.vision if clock.seconds(span[1], start) >= 0)
        vision, method, merges = (sum(clock.seconds(*span) for span in spans) for spans in (self.vision, self.method, self.merges))
        return PrefillTime(before + clock.seconds(start, end), vision - merges, method + merges, end)
