"""What the user wants profiled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from unibench.compose import compose_cells
from unibench.config import RunConfig
from unibench.errors import UsageError, UsageErrors, unknown
from unibench.profile.protocol import PROTOCOLS, Protocol

NOT_HERE = ("task", "batch_size", "generation")  # keys of accuracy runs


@dataclass(frozen=True)
class Request:
    """Inputs and repetitions; models, methods and budgets are the cells'.

    Attributes:
        image: width x height of the picture in pixels.
        text_tokens: tokens of the question.
        new_tokens: decoded, always so many.
        batch: prompts read together, one table each.
        warmup: passes of every method that are not counted, besides the two that count FLOPs and
            memory.
        repeats: passes of every method, in turn; None is the protocol's.
        samples: prompts in a repeat; None is the protocol's.
        protocol: see :data:`~unibench.profile.protocol.PROTOCOLS`.
    """

    image: tuple[int, int] = (1920, 1080)
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


OWN = tuple(field.name for field in fields(Request))


def parse(words: Sequence[str]) -> tuple[Request, list[RunConfig]]:
    """The request and its cells; comma lists are grids.

    Raises:
        UsageErrors: every mistake found, before anything is loaded.
    """
    errors: list[UsageError] = []
    given: dict[str, object] = {}
    rest: list[str] = []
    for word in words:
        key, _, value = word.partition("=")
        try:
            if key in OWN:
                given[key] = _value(key, value)
            elif key.partition(".")[0] in NOT_HERE:
                raise UsageError(
                    f"{key}: profile asks no task; its inputs are {', '.join(OWN[:4])}"
                )
            else:
                rest.append(word)
        except UsageError as error:
            errors.append(error)
    cells: list[RunConfig] = []
    try:
        cells = compose_cells(rest, sweep=True)
    except UsageErrors as error:
        errors += [UsageError(line) for line in error.errors]
    except UsageError as error:
        errors.append(error)
    if errors:
        raise UsageErrors(errors)
    return Request(**given), cells  # type: ignore[arg-type]


def _value(key: str, value: str) -> object:
    if key == "protocol":
        if value not in PROTOCOLS:
            raise unknown("protocol", value, PROTOCOLS)
        return value
    if key == "image":
        size = re.fullmatch(r"(\d+)x(\d+)", value)
        if size is None or min(int(size[1]), int(size[2])) < 1:
            raise UsageError(
                f"image={value}: width x height in pixels wanted, for example image=1920x1080"
            )
        return int(size[1]), int(size[2])
    numbers = value.split(",") if key == "batch" else [value]
    least = 0 if key == "warmup" else 1
    if not all(number.isdecimal() and int(number) >= least for number in numbers):
        raise UsageError(f"{key}={value}: a whole number wanted, at least {least}")
    return tuple(int(number) for number in numbers) if key == "batch" else int(value)
