"""The questions of a harness in a folder of a cell, for an engine that answers them in another
process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL.Image import Image

from unibench.inference.ask import Question
from unibench.inference.record import frozen

FOLDER = "questions"  # of a cell, while its engine answers
LINES = "questions.jsonl"


@dataclass(frozen=True)
class Put:
    """A question as an engine is asked it.

    Attributes:
        question: what its record says of it.
        text: under the model's chat template, a placeholder for each picture.
        images: files beside the list of questions.
        max_new_tokens: of the answer.
    """

    question: Question
    text: str
    images: tuple[str, ...]
    max_new_tokens: int


class Collection:
    """Questions that are being written.

    Args:
        folder: is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.names = folder, list[str]()
        folder.mkdir(parents=True)

    def add(
        self, question: Question, text: str, images: Sequence[Image], max_new_tokens: int
    ) -> None:
        """Write a question and its pictures."""
        files = tuple(f"{len(self.names)}-{number}.png" for number in range(len(images)))
        for image, file in zip(images, files, strict=True):
            image.convert("RGB").save(self.folder / file)
        line = json.dumps(asdict(Put(question, text, files, max_new_tokens)))
        with (self.folder / LINES).open("a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")
        self.names.append(question.id)


def collected(folder: Path) -> Iterator[Put]:
    """The questions in a folder, in the order in which they were put."""
    with (folder / LINES).open(encoding="utf-8") as stream:
        for line in stream:
            told = json.loads(line)
            question = {key: frozen(value) for key, value in told["question"].items()}
            images, length = tuple(told["images"]), told["max_new_tokens"]
            yield Put(Question(**question), told["text"], images, length)
