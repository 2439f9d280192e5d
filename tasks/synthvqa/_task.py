"""The embedded benchmark as a task."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import ClassVar

import numpy as np

from unibench.errors import unknown
from unibench.tasks._task import Sample
from unibench.tasks.synthvqa._first_questions import ABILITIES, Question, ask
from unibench.tasks.synthvqa._first_scene import Scene, draw, make_scene

_SPLITS = {"test": 50_000_000, "dev": 40_000_000}  # training stays below 30,000,000


class SynthVQA:
    """Questions about drawn pictures: nothing is downloaded, everything follows from the seed.

    Sample ``i`` has ability ``i mod A`` and is about picture ``i div A``, so every picture is asked
    once for each ability and each prefix of the samples is balanced.

    Args:
        split: ``"test"``, or ``"dev"`` for trying things out. Neither shares a picture with training.
        seed: another draw of the split.
        size: number of samples.
    """

    name: ClassVar[str] = "synthvqa"
    metric: ClassVar[str] = "accuracy"
    max_new_tokens: ClassVar[int] = 8
    abilities: ClassVar[tuple[str, ...]] = ABILITIES

    def __init__(self, *, split: str = "test", seed: int = 0, size: int = 1000) -> None:
        if split not in _SPLITS:
            raise unknown("split of synthvqa", split, tuple(_SPLITS), "python -m unibench show task synthvqa")
        self.split, self.seed, self.size = split, seed, size

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """The first ``limit`` samples (all ``size`` of them without it)."""
        return islice(self._all(), self.size if limit is None else min(limit, self.size))

    def score(self, sample: Sample, answer: str) -> float:
        """1 where the whole answer is one of the accepted ones, whatever the case."""
        return float(answer.strip().lower() in {accepted.strip().lower() for accepted in sample.answers})

    def _all(self) -> Iterator[Sample]:
        for scene, questions in self._pictures():
            image, group = draw(scene), f"{self.split}-{scene.seed}"
            for ability, question in questions.items():
                yield Sample(f"{group}-{ability}", (image,), question.text, (question.answer,), ability, group)

    def _pictures(self) -> Iterator[tuple[Scene, dict[str, Question]]]:
        """Scenes about which every ability can ask."""
        for number in count(_SPLITS[self.split] + self.seed * 1_000_000):
            scene = make_scene(number)
            asked = {ability: ask(ability, scene, np.random.default_rng([82, number, i])) for i, ability in enumerate(ABILITIES)}
            questions = {ability: question for ability, question in asked.items() if question is not None}
            if len(questions) == len(ABILITIES):
                yield scene, questions
