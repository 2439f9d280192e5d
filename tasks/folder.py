"""Questions about one's own pictures: a folder with ``questions.jsonl``."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from PIL.Image import Image

from unibench.errors import UsageError
from unibench.pictures import PictureError, read_picture
from unibench.tasks._task import Sample

FILE = "questions.jsonl"
LETTERS = "ABCDEFGHIJKLMNOP"
Box = tuple[float, ...]  # left, top, right, bottom
OPTION = re.compile(r"(?:^|(?<=\s)|(?<=\())([A-P])[.):]\s")


@dataclass(frozen=True)
class Line:
    """One question of the file, its pictures not yet opened.

    Attributes:
        number: of the line, from 1.
        id: its own, or the number of the line.
        pictures: names of the picture files, relative to the folder.
        question: the whole text.
        answers: accepted answers, at least one.
        ability: what is tested.
        boxes: of each picture, what the question is about.
    """

    number: int
    id: str
    pictures: tuple[str, ...]
    question: str
    answers: tuple[str, ...]
    ability: str
    boxes: tuple[tuple[Box, ...], ...] = ()


class Folder:
    """One JSON object per line: ``{"image": "a.png", "question": "...", "answer": "..."}``.

    ``image`` may be a list, ``answer`` a list of accepted answers; ``id``, ``ability`` and ``box``
    are optional: what the question is about, ``[left, top, right, bottom]`` as shares of the sides
    of the only picture. All lines are read and checked at once, the pictures when they are asked
    about. A picture is a PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or PPM file and is shown as viewers
    show it, see :func:`unibench.pictures.read_picture`.

    Args:
        data: the folder.
        max_new_tokens: length of the longest answer.

    Raises:
        UsageError: no such file, or a line that is no question; the message names the line.
    """

    name: ClassVar[str] = "folder"
    metric: ClassVar[str] = "accuracy"

    def __init__(self, *, data: str | None = None, max_new_tokens: int = 16) -> None:
        if data is None:
            raise UsageError(f"task=folder needs task.data=<folder with {FILE}>")
        self.folder, self.max_new_tokens = Path(data).expanduser(), max_new_tokens
        self._lines = read(self.folder / FILE)

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """The first ``limit`` questions of the file."""
        for line in islice(self._lines, limit):
            pictures = tuple(self._picture(line, name) for name in line.pictures)
            group = "+".join(line.pictures)
            asked = line.question, line.answers, line.ability
            yield Sample(line.id, pictures, *asked, group, line.boxes)

    def questions(self, limit: int | None = None) -> Iterator[tuple[str, str]]:
        """Each question after the line that it stands in, without its pictures."""
        for line in islice(self._lines, limit):
            yield f"{self.folder / FILE} line {line.number}", line.question

    def score(self, sample: Sample, answer: str) -> float:
        """1 where the whole answer is an accepted one, whatever the case and the Unicode form."""
        return float(comparable(answer) in map(comparable, sample.answers))

    def _picture(self, line: Line, name: str) -> Image:
        try:
            return read_picture(self.folder / name)
        except PictureError as error:
            raise UsageError(
                f"{self.folder}/{FILE} line {line.number}: cannot read the picture {name}: {error}"
            ) from None


def comparable(text: str) -> str:
    """A text without what does not make another answer: case, outer space, the Unicode form.

    >>> comparable("Stra\\u00dfe ") == comparable("STRASSE")
    True
    """
    return unicodedata.normalize("NFC", text.strip().casefold())


def read(file: Path) -> list[Line]:
    """The questions of a file, in order.

    Raises:
        UsageError: it cannot be read, a line is no question, or two have one id.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = f"there is no {FILE} in it" if not file.exists() else str(error.strerror)
        raise UsageError(f"task.data={file.parent}: {reason}") from None
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{file} line {number} is not UTF-8; save the file as UTF-8") from None
    lines: list[Line] = []
    places: dict[str, int] = {}
    # only a line feed ends a line: U+2028 or U+0085 inside of a question is part of it
    for number, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        line = _line(file, number, content)
        if line.id in places:
            raise UsageError(
                f"{file}: lines {places[line.id]} and {number} have one id, {line.id!r} (a line"
                " without an id has its number); give each question an id of its own"
            )
        places[line.id] = number
        lines.append(line)
    if not lines:
        raise UsageError(f"{file} holds no question; one JSON object per line is wanted")
    return lines


def _line(file: Path, number: int, content: str) -> Line:
    where = f"{file} line {number}"
    try:
        entry = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}") from None
    if re.search("[\ud800-\udfff]", json.dumps(entry, ensure_ascii=False)):
        raise UsageError(f"{where} holds half of a surrogate pair, which is no character")
    missing = {"image", "question", "answer"} - (entry.keys() if isinstance(entry, dict) else set())
    if missing:
        raise UsageError(f"{where}: {', '.join(sorted(missing))} missing; an object with image,"
                         " question and answer is wanted")  # fmt: skip
    question = entry["question"]
    if not isinstance(question, str) or not question.strip():
        raise UsageError(f"{where}: question is {_shown(question)}, a text is wanted")
    answers = _answers(where, entry["answer"])
    if (reason := _of_options(question, answers)) is not None:
        raise UsageError(f"{where}: answer is {_shown(entry['answer'])}; {reason}")
    return Line(
        number,
        _name(where, "id", entry.get("id"), str(number)),
        _pictures(where, entry["image"]),
        question,
        answers,
        _name(where, "ability", entry.get("ability"), "all"),
        _boxes(where, entry),
    )


def _boxes(where: str, entry: dict[str, Any]) -> tuple[tuple[Box, ...], ...]:
    """The box of a line, of its only picture."""
    box = entry.get("box")
    if box is None:
        return ()
    numbers = isinstance(box, list) and all(type(edge) in (int, float) for edge in box)
    if isinstance(entry["image"], list) and len(entry["image"]) != 1:
        raise UsageError(f"{where}: box is of one picture, and this question has several")
    inside = numbers and len(box) == 4 and all(0 <= box[i] < box[i + 2] <= 1 for i in (0, 1))
    if not inside:
        raise UsageError(
            f"{where}: box is {_shown(box)}; [left, top, right, bottom] as shares of the picture's"
            " sides is wanted"
        )
    return ((tuple(map(float, box)),),)


def _name(where: str, key: str, value: Any, default: str) -> str:
    """The value of an optional key; null, which tables write for an empty cell, is the default."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise UsageError(f"{where}: {key} is {_shown(value)}, a text or a whole number is wanted")
    return str(value)


def _pictures(where: str, value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    for name in names:
        if not isinstance(name, str) or not name or "\0" in name:
            raise UsageError(f"{where}: image is {_shown(value)}, names of files are wanted")
    return tuple(names)


def _answers(where: str, value: Any) -> tuple[str, ...]:
    """Accepted answers as texts; what is no label is refused rather than taken by its spelling."""
    accepted = value if isinstance(value, list) else [value]
    for answer in accepted or [None]:
        number = isinstance(answer, (int, float)) and not isinstance(answer, bool)
        if number and math.isfinite(answer):
            continue
        if not isinstance(answer, str) or not answer.strip():
            raise UsageError(
                f"{where}: answer is {_shown(value)}; a text, a number or a list of accepted"
                " answers is wanted"
            )
    return tuple(map(str, accepted))


def _of_options(question: str, answers: Sequence[str]) -> str | None:
    """Why none of the accepted answers is one of the options that a question lists, each after its
    letter; None if one is, or it lists none.

    >>> _of_options("Which? A. red B. blue", ["E"])
    'none of its options A, B is accepted, so no reply could be right'
    >>> _of_options("Which? (A) red (B) blue", ["b"])
    """
    found = OPTION.findall(question)
    letters = [letter for letter, wanted in zip(found, LETTERS, strict=False) if letter == wanted]
    single = all(re.fullmatch(r"[A-Za-z]", answer.strip()) for answer in answers)
    if len(letters) < 2 or len(letters) < len(found) or not single:
        return None
    if {answer.strip().upper() for answer in answers} & {*letters}:
        return None
    return f"none of its options {', '.join(letters)} is accepted, so no reply could be right"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
