"""Pictures of synthvqa with questions that carry no benchmark's form yet: a harness adds its own."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count, islice

import numpy as np
from PIL import Image

from unibench.tasks.synthvqa._draw import draw
from unibench.tasks.synthvqa._prompts import FORMS, Voice
from unibench.tasks.synthvqa._questions import Asker, Question, ask, attribute
from unibench.tasks.synthvqa._scene import Scene, make_scene

FIRST_SEED = (
    70_000_000  # synthvqa trains below 30,000,000; its splits start at 40, 50 and 60 million
)
# share of synthvqa's usual number of signs and things; a tiny model reads sparse pictures sooner
FILL = 1.0
LETTERS = "ABCD"


@dataclass(frozen=True)
class Asked:
    """One question about one picture.

    Attributes:
        scene: what the picture shows.
        text: the question alone.
        answer: ``Yes`` or ``No``, a word, a number, what a sign says, or the letter of the right
            option.
        options: empty unless it is multiple choice.
    """

    scene: Scene
    text: str
    answer: str
    options: tuple[str, ...] = ()

    @property
    def lettered(self) -> dict[str, str]:
        """The options by their letters."""
        return dict(zip(LETTERS, self.options, strict=False))

    @property
    def picture(self) -> Image.Image:
        """RGB, 336 x 336."""
        return draw(self.scene)

    @property
    def png(self) -> bytes:
        """The picture as a file."""
        return _png(self.scene.seed)

    @property
    def right(self) -> str:
        """The right answer in words, for multiple choice too."""
        return self.options[LETTERS.index(self.answer)] if self.options else self.answer


def exists(size: int) -> list[Asked]:
    """Is a thing there? Yes and No in turn."""
    return [
        _existence(scene, "Yes" if number % 2 == 0 else "No")
        for number, scene in enumerate(_scenes(size))
    ]


def exists_in_pairs(pairs: int) -> list[Asked]:
    """Two questions about each picture: Yes, then No."""
    return [_existence(scene, answer) for scene in _scenes(pairs) for answer in ("Yes", "No")]


def choices(size: int) -> list[Asked]:
    """Multiple choice with four options."""
    return list(islice(_all("multiple_choice"), size))


def readings(size: int) -> list[Asked]:
    """What does a sign say?"""
    return list(islice(_all("reading"), size))


def counts(size: int) -> list[Asked]:
    """How many are there? Only positive numbers: a relative error of zero has no meaning."""
    return list(islice((asked for asked in _all("counting") if asked.answer != "0"), size))


def attributes(size: int) -> list[Asked]:
    """Colour or shape of a thing, in one word."""
    found = (_attribute(scene) for scene in _seeds())
    return list(islice((asked for asked in found if asked is not None), size))


def caption(scene: Scene) -> str:
    """One sentence about the three largest things and the ground."""
    names = [thing.name for thing in sorted(scene.things, key=lambda thing: -thing.radius)][:3]
    return f"a picture of {', '.join('a ' + name for name in names)} on {scene.ground}"


def tally(scene: Scene) -> str:
    """How many there are of each shape: what a model that counts gets partly right."""
    shapes = Counter(thing.name.rpartition(" ")[2] for thing in scene.things)
    return (
        ", ".join(f"{number} of shape {shape}" for shape, number in sorted(shapes.items()))
        + f" on {scene.ground}"
    )


def _existence(scene: Scene, answer: str) -> Asked:
    return _until(scene, "existence", lambda question: question.answer == answer)


def _all(ability: str) -> Iterator[Asked]:
    for scene in _seeds():
        question = ask(ability, scene, _rng(scene, 0))
        if question is not None:
            yield _bare(scene, question)


def _until(scene: Scene, ability: str, wanted: Callable[[Question], bool]) -> Asked:
    """The first question that is wanted; each try draws anew."""
    drawn = (ask(ability, scene, _rng(scene, attempt)) for attempt in count())
    return _bare(
        scene, next(question for question in drawn if question is not None and wanted(question))
    )


def _attribute(scene: Scene) -> Asked | None:
    rng = _rng(scene, 0)
    found = attribute(Asker(scene, rng, Voice(rng, varied=False)))
    return None if found is None else Asked(scene, found[0], found[1])


def _bare(scene: Scene, question: Question) -> Asked:
    """Take away the form in which synthvqa puts a question."""
    text = question.text
    for forms in FORMS.values():
        before, _, after = forms[0].replace("{question}\n{options}", "{}").partition("{}")
        text = text.removeprefix(before).removesuffix(after)
    text, *lines = text.split("\n")
    return Asked(scene, text, question.answer, tuple(line.partition(". ")[2] for line in lines))


def _rng(scene: Scene, attempt: int) -> np.random.Generator:
    return np.random.default_rng([94, scene.seed, attempt])


def _seeds() -> Iterator[Scene]:
    return (_scene(seed) for seed in count(FIRST_SEED))


def _scenes(number: int) -> list[Scene]:
    return list(islice(_seeds(), number))


@cache
def _scene(seed: int) -> Scene:
    return make_scene(seed, fill=FILL)


@cache
def _png(seed: int) -> bytes:
    buffer = io.BytesIO()
    draw(_scene(seed)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
