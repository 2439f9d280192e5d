"""What the user wants profiled."""

from __future__ import annotations

from dataclasses import dataclass

from unibench.profile.protocol import PROTOCOLS, Protocol


@dataclass(frozen=True)
class Request:
    """Inputs and repetitions; models, methods and budgets are the cells'.

    Attributes:
        image: width x height of the picture in pixels, or the file of one.
        text_tokens: tokens of the question.
        new_tokens: decoded, always so many.
        batch: prompts read together, one table each.
        warmup: passes of every method that are not counted, besides the two that count FLOPs and
            memory.
        repeats: passes of every method, in turn; None is the protocol's.
        samples: prompts in a repeat; None is the protocol's.
        protocol: see :data:`~unibench.profile.protocol.PROTOCOLS`.
    """

    image: tuple[int, int] | str = (1920, 1080)
    text_tokens: int = 64
    new_tokens: int = 32
    batch: tuple[int, ...] = (1,)
    warmup: int = 1
    repeats: int | None = None
    samples: int | None = None
    protocol: str = "unibench"

    @property
    def rule(self) -> Protocol:
        return PROTOCOLS[self.protocol]
