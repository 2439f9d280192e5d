"""The embedded benchmark as a task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice, pairwise
from typing import ClassVar, NamedTuple

import numpy as np

from unibench.errors import unknown
from unibench.tasks._task import Sample
from unibench.tasks.synthvqa._draw import draw
from unibench.tasks.synthvqa._prompts import about
from unibench.tasks.synthvqa._questions import ABILITIES, Question, ask
from unibench.tasks.synthvqa._scene import SIDE, Scene, make_scene

_SPLITS = {
    "test": 50_000_000,
    "dev": 40_000_000,
    "combinations": 60_000_000,
}  # training stays below 30,000,000


class _Variant(NamedTuple):
    """Side of a picture in pixels, pictures of a sample, share of the usual signs and things."""

    side: int = SIDE
    pictures: int = 1
    fill: float = 1.0


_VARIANTS = {
    "single": _Variant(),
    "large": _Variant(side=448),
    "pair": _Variant(pictures=2),
    "sparse": _Variant(fill=0.3),
}


class SynthVQA:
    """Questions about drawn pictures: nothing is downloaded, everything follows from the seed.

    Sample ``i`` has ability ``i mod A`` and is about picture ``i div A``, so every picture is asked
    once for each ability and each prefix of the samples is balanced.

    Args:
        split: ``"test"``; ``"dev"`` for trying things out; ``"combinations"``, whose pictures show
            pairs of colour and shape that no training picture shows, and whose existence questions
            are about them. None shares a picture with training.
        variant: ``"single"``, one picture of 336 x 336; ``"large"``, one of 448 x 448 with more in
            it; ``"pair"``, two pictures of 336 x 336, the question is about one of them;
            ``"sparse"``, one with 1-2 signs and 2-4 things, which few tokens can hold.
        seed: another draw of the split.
        shuffled: shows the next picture in place of the one asked about. What a model scores then
            it knows without looking.
        size: number of samples where no limit is given.
    """

    name: ClassVar[str] = "synthvqa"
    limit: ClassVar[int] = 200
    metric: ClassVar[str] = "accuracy"
    max_new_tokens: ClassVar[int] = 16
    abilities: ClassVar[tuple[str, ...]] = ABILITIES

    def __init__(
        self,
        *,
        split: str = "test",
        variant: str = "single",
        seed: int = 0,
        shuffled: bool = False,
        size: int = 1000,
    ) -> None:
        for kind, given, allowed in (("split", split, _SPLITS), ("variant", variant, _VARIANTS)):
            if given not in allowed:
                raise unknown(
                    f"{kind} of synthvqa",
                    given,
                    tuple(allowed),
                    "python -m unibench show task synthvqa",
                )
        self.split, self.variant, self.seed, self.shuffled, self.size = (
            split,
            variant,
            seed,
            shuffled,
            size,
        )

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """The first ``limit`` samples (``size`` without it); there is no end of them."""
        return islice(self._all(), self.size if limit is None else limit)

    def score(self, sample: Sample, answer: str) -> float:
        """1 where the whole answer is an accepted one. Case counts only where a form of answer is
        asked for.
        """
        given, accepted = answer.strip(), {text.strip() for text in sample.answers}
        if sample.ability == "format":
            return float(given in accepted)
        return float(given.lower() in {text.lower() for text in accepted})

    def _all(self) -> Iterator[Sample]:
        variant = f"{self.variant}-shuffled" if self.shuffled else self.variant
        for (scenes, questions), (others, _) in pairwise(self._pictures()):
            images = tuple(draw(scene) for scene in (others if self.shuffled else scenes))
            group = f"{self.split}-{variant}-{scenes[0].seed}"
            for ability, question in questions.items():
                yield Sample(
                    f"{group}-{ability}", images, question.text, (question.answer,), ability, group
                )

    def _pictures(self) -> Iterator[tuple[tuple[Scene, ...], dict[str, Question]]]:
        """Scenes about which every ability can ask, with the questions."""
        side, number, fill = _VARIANTS[self.variant]
        held_out = self.split == "combinations"
        for first in count(_SPLITS[self.split] + self.seed * 1_000_000, number):
            scenes = tuple(
                make_scene(seed, (side, side), held_out, fill)
                for seed in range(first, first + number)
            )
            asked = {
                ability: self._ask(ability, scenes, np.random.default_rng([93, first, i]))
                for i, ability in enumerate(ABILITIES)
            }
            questions = {
                ability: question for ability, question in asked.items() if question is not None
            }
            if len(questions) == len(ABILITIES):
                yield scenes, questions

    def _ask(
        self, ability: str, scenes: tuple[Scene, ...], rng: np.random.Generator
    ) -> Question | None:
        which = int(rng.integers(len(scenes)))
        question = ask(ability, scenes[which], rng, held_out=self.split == "combinations")
        if question is None or len(scenes) == 1:
            return question
        return replace(question, text=about(which, question.text))
