"""easyvqa: the test split of easy-VQA, read from its own package."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image

from unibench.errors import UsageError, unknown
from unibench.pictures import read_picture
from unibench.tasks._task import Sample

SIDE = 336  # to which pictures of 64 x 64 are enlarged
SPLITS = ("test", "train")
INSTALL = "pip install easy-vqa==1.0"
Split = Literal["test", "train"]


@dataclass(frozen=True)
class Entry:
    """One question of the data set.

    Attributes:
        text: the question.
        answer: one of 13 words.
        picture: number of the picture in its split.
    """

    text: str
    answer: str
    picture: int

    @property
    def ability(self) -> str:
        """What is asked for: ``yes_no``, ``shape`` or ``color``."""
        if self.answer in ("yes", "no"):
            return "yes_no"
        return "shape" if self.answer in ("circle", "rectangle", "triangle") else "color"


def entries(split: Split) -> list[Entry]:
    """The questions of a split, in the order of the package.

    Raises:
        UsageError: the package is not installed.
    """
    package = _package()
    read = package.get_test_questions if split == "test" else package.get_train_questions
    return [Entry(*parts) for parts in zip(*read(), strict=True)]


def picture_files(split: Split) -> dict[int, str]:
    """The files of the pictures of a split, by number.

    Raises:
        UsageError: the package is not installed.
    """
    package = _package()
    read = package.get_test_image_paths if split == "test" else package.get_train_image_paths
    files: dict[int, str] = read()
    return files


def enlarged(file: str) -> Image.Image:
    """A picture as the task shows it."""
    return read_picture(Path(file)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _package() -> Any:
    # imported here, since only this task needs the package and its pictures
    try:
        import easy_vqa
    except ImportError:
        raise UsageError(f"task=easyvqa reads the package easy-vqa: {INSTALL}") from None
    return easy_vqa


class EasyVQA:
    """easy-VQA: 1,000 pictures of one shape, 9,673 questions, 13 answers; none was drawn here.

    The pictures have 64 x 64 pixels and are enlarged to 336 x 336. Three quarters of the questions
    want yes or no, of which half is right blindly. The first sample of each picture comes first,
    then the second of each, so that a limit sees as many pictures as it can. Victor Zhou, easy-VQA,
    2019, MIT licence: https://github.com/vzhou842/easy-VQA

    Args:
        split: ``"test"``, the official one; ``"train"``, which the tiny checkpoints learn.
    """

    name: ClassVar[str] = "easyvqa"
    limit: ClassVar[int] = 1000
    metric: ClassVar[str] = "accuracy"
    max_new_tokens: ClassVar[int] = 8
    abilities: ClassVar[tuple[str, ...]] = ("yes_no", "shape", "color")

    def __init__(self, *, split: Split = "test") -> None:
        if split not in SPLITS:
            raise unknown("split of easyvqa", split, SPLITS)
        self.split = split
        self._entries, self._files = entries(split), picture_files(split)

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """The first ``limit`` questions of the split."""
        turns: dict[int, list[tuple[int, Entry]]] = defaultdict(list)
        asked: dict[int, int] = defaultdict(int)
        for number, entry in enumerate(self._entries):
            turns[asked[entry.picture]].append((number, entry))
            asked[entry.picture] += 1
        in_turn = (pair for turn in sorted(turns) for pair in turns[turn])
        for number, entry in islice(in_turn, limit):
            picture = enlarged(self._files[entry.picture])
            group = f"easyvqa-{self.split}-{entry.picture}"
            name = f"easyvqa-{self.split}-{number}"
            yield Sample(name, (picture,), entry.text, (entry.answer,), entry.ability, group)

    def score(self, sample: Sample, answer: str) -> float:
        """1 where the answer is the data set's, whatever its case."""
        return float(answer.strip().casefold() in map(str.casefold, sample.answers))
