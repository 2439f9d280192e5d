"""photographs: seven pictures of the real world, which scikit-image ships, to see what stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

from unibench.errors import UsageError
from unibench.pictures import read_picture
from unibench.tasks._scoring import contains
from unibench.tasks._task import Sample

INSTALL = "pip install scikit-image==0.26.0"
SHORTLY = "Answer with one word."


@dataclass(frozen=True)
class Photograph:
    """A picture of ``skimage.data``.

    Attributes:
        file: its name there.
        licence: as its docstring in that package has it.
        asked: question, accepted answers and ability of each.
    """

    file: str
    licence: str
    asked: tuple[tuple[str, tuple[str, ...], str], ...]


PHOTOGRAPHS = (
    Photograph(
        "astronaut.png",
        "NASA, public domain",
        (
            ("What colour is the suit?", ("orange", "red"), "attribute"),
            ("Is there a flag in the picture?", ("yes",), "yes_no"),
            ("What is the job of this person?", ("astronaut", "pilot"), "thing"),
        ),
    ),
    Photograph(
        "chelsea.png",
        "Stefan van der Walt, CC0",
        (
            ("What animal is this?", ("cat", "kitten"), "thing"),
            ("Is it asleep?", ("no",), "yes_no"),
            ("What colour are its eyes?", ("green", "yellow"), "attribute"),
        ),
    ),
    Photograph(
        "coffee.png",
        "Rachel Michetti, CC0",
        (
            ("What is in the cup?", ("coffee", "espresso"), "thing"),
            ("Is there a fork in the picture?", ("no",), "yes_no"),
            ("What colour is the saucer?", ("red", "brown", "orange"), "attribute"),
        ),
    ),
    Photograph(
        "rocket.jpg",
        "SpaceX, public domain",
        (
            ("What stands in the middle?", ("rocket",), "thing"),
            ("Is it raining?", ("no",), "yes_no"),
            ("What colour is the sky?", ("blue", "dark"), "attribute"),
        ),
    ),
    Photograph(
        "camera.png",
        "Lav Varshney, CC0",
        (
            ("What does the man look into?", ("camera",), "thing"),
            ("Is he sitting?", ("no",), "yes_no"),
            ("What colour is his coat?", ("black", "dark"), "attribute"),
        ),
    ),
    Photograph(
        "coins.png",
        "Brooklyn Museum, no known restrictions",
        (
            ("What is shown here?", ("coins", "coin"), "thing"),
            ("Are all of them equally large?", ("no",), "yes_no"),
            ("How many rows are there?", ("4", "four"), "attribute"),
        ),
    ),
    Photograph(
        "horse.png",
        "Andreas Preuss, CC0",
        (
            ("What animal is this?", ("horse",), "thing"),
            ("Is it lying down?", ("no",), "yes_no"),
            ("What colour is it?", ("black",), "attribute"),
        ),
    ),
)


class Photographs:
    """Three questions about each of seven photographs: to look at kept tokens, not to measure with.

    The first question of each picture comes first. An answer counts if an accepted word is in it.
    The pictures are those of scikit-image (https://scikit-image.org), each free of restrictions:
    :attr:`Photograph.licence`.
    """

    name: ClassVar[str] = "photographs"
    limit: ClassVar[int] = 21
    metric: ClassVar[str] = "accuracy"
    max_new_tokens: ClassVar[int] = 8
    abilities: ClassVar[tuple[str, ...]] = ("thing", "yes_no", "attribute")

    def __init__(self) -> None:
        self._folder = _folder()

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """The first ``limit`` questions."""
        return islice(self._samples(), limit)

    def _samples(self) -> Iterator[Sample]:
        for turn in range(len(self.abilities)):
            for photograph in PHOTOGRAPHS:
                question, answers, ability = photograph.asked[turn]
                stem = Path(photograph.file).stem
                name = f"photographs-{stem}-{ability}"
                picture = read_picture(self._folder / photograph.file)
                yield Sample(name, (picture,), f"{question} {SHORTLY}", answers, ability, stem)

    def score(self, sample: Sample, answer: str) -> float:
        """1 where an accepted word is in the answer."""
        return contains(answer, sample.answers)


def _folder() -> Path:
    # its pictures are read as files: the functions of `skimage.data` would load scipy's filters
    try:
        import skimage
    except ImportError:
        message = f"task=photographs shows pictures of scikit-image: {INSTALL}"
        raise UsageError(message) from None
    return Path(skimage.__file__).parent / "data"
