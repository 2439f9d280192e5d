"""What every embedded task looks like to the runner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image


@dataclass(frozen=True)
class Sample:
    """One question.

    Attributes:
        id: unique within the task and the same in every run.
        images: RGB pictures, in the order in which the prompt shows them (all before the text).
        question: the whole user text, with the suffix that asks for a form of answer.
        answers: accepted answers; the first is the one to print.
        ability: what is tested, for example ``"reading"``.
        group: name of the picture; samples that share it are not independent.
        boxes: of each picture, the places that the question is about, if the task knows them:
            left, top, right, bottom as shares of the picture's sides.
    """

    id: str
    images: tuple[Image, ...]
    question: str
    answers: tuple[str, ...]
    ability: str
    group: str
    boxes: tuple[tuple[tuple[float, ...], ...], ...] = ()


class Task(Protocol):
    """A task that runs in this process.

    Attributes:
        name: that of its module.
        metric: name of the score, for example ``"accuracy"``.
        max_new_tokens: length of the longest answer.
    """

    name: str
    metric: str
    max_new_tokens: int

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """The first ``limit`` samples; the order is fixed and mixes the abilities evenly."""
        ...

    def score(self, sample: Sample, answer: str) -> float:
        """Score of one answer, in [0, 1]."""
        ...
