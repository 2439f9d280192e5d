"""Questions about one's own pictures: a file of questions, or a folder with one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from PIL.Image import Image

from unibench.clips import FRAMES, is_clip, read_clip
from unibench.datafiles import LETTERS, Entry, entries, source_of
from unibench.errors import UsageError, unknown
from unibench.pictures import PictureError, picture_of, read_picture
from unibench.tasks._scoring import exact, scorer
from unibench.tasks._task import Sample

FILE = "questions.jsonl"
Box = tuple[float, ...]  # left, top, right, bottom
OPTION = re.compile(r"(?:^|(?<=\s)|(?<=\())([A-P])[.):]\s")
ON_BAD = ("stop", "skip")
NAMED = 5  # pictures that cannot be read, of which a message says each
LETTER = "Answer with the letter of the option."

Picture = str | bytes  # the name of a file, or what it would hold


@dataclass(frozen=True)
class Line:
    """One question of the file, its pictures not yet opened.

    Attributes:
        where: it stands.
        id: its own, or the number of the line.
        pictures: names of the picture files, relative to the folder, or their contents.
        question: the whole text, options included.
        answers: accepted answers, at least one.
        ability: what is tested.
        options: what may be chosen, in the order of their letters; none of an open question.
        boxes: of each picture, what the question is about.
    """

    where: str
    id: str
    pictures: tuple[Picture, ...]
    question: str
    answers: tuple[str, ...]
    ability: str
    options: tuple[str, ...] = ()
    boxes: tuple[tuple[Box, ...], ...] = ()

    @property
    def group(self) -> str:
        """The same for questions about the same pictures."""
        return "+".join(map(_named, self.pictures))


class Folder:
    """Questions in JSONL, CSV, TSV (as VLMEvalKit's), parquet, or a dataset that ``datasets``
    saved; ``docs/own_data.md`` shows each.

    A question has ``image`` (a name or a list of them, or the picture itself), ``question`` and
    ``answer`` (or a list of accepted answers). Optional are ``id``, ``ability``, ``hint``,
    ``options`` (or the columns A, B, C, ...) and ``box``, what the question is about: ``[left, top,
    right, bottom]`` as shares of the sides of the only picture. All questions are read and checked
    at once, and so are the pictures before a model is loaded. A picture is a PNG, JPEG, WebP, GIF,
    BMP, TIFF, AVIF or PPM file and is shown as viewers show it, see
    :func:`unibench.pictures.read_picture`. With ``modality=video`` it may be a video file instead,
    see :func:`unibench.clips.read_clip`.

    Args:
        data: the file or folder.
        max_new_tokens: length of the longest answer.
        columns: column by what it holds: ``{question: prompt, answer: label}``.
        split: of a folder with several.
        score: exact, contains, choice, anls, relaxed, iou, or ``./mine.py:function`` of your own,
            which takes the answer and the accepted ones; without it choice for a question with
            options, exact for the others.
        on_bad: ``skip`` leaves out questions whose pictures are missing or broken; ``stop`` names
            them.
        clip_frames: frames that are read of a video file, evenly spaced; ``video.frames`` chooses
            among them.

    Raises:
        UsageError: no such file, or a line that is no question; the message names the line.
    """

    name: ClassVar[str] = "folder"
    metric: ClassVar[str] = "accuracy"
    _score: Any = None
    _options: Mapping[str, tuple[str, ...]] = {}

    def __init__(
        self,
        *,
        data: str | None = None,
        max_new_tokens: int = 16,
        columns: Mapping[str, str] | None = None,
        split: str | None = None,
        score: str | None = None,
        on_bad: str = "stop",
        clip_frames: int = FRAMES,
    ) -> None:
        if data is None:
            raise UsageError(f"task=folder needs task.data=<a file, or a folder with {FILE}>")
        if on_bad not in ON_BAD:
            raise unknown("on_bad", on_bad, ON_BAD)
        if columns is not None and not isinstance(columns, Mapping):
            raise UsageError(f"columns={columns!r}: a mapping is wanted: {{question: prompt}}")
        if type(clip_frames) is not int or clip_frames < 1:
            raise UsageError(f"clip_frames={clip_frames!r}: a whole number from 1 is wanted")
        source = source_of(Path(data).expanduser(), split)
        self._clip_frames = clip_frames
        self.folder, self.max_new_tokens = source.folder, max_new_tokens
        self._skip = on_bad == "skip"
        self._score = None if score is None else scorer(score)
        boxes = score == "iou"
        self._lines = _checked(entries(source, columns), source.files[0], boxes=boxes)
        self._options = {line.id: line.options for line in self._lines if line.options}

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """The first ``limit`` questions of the file."""
        for line in islice(self._lines, limit):
            try:
                shown = [self._shown(line, one) for one in line.pictures]
            except UsageError:
                if self._skip:
                    continue
                raise
            asked = line.question, line.answers, line.ability
            pictures = tuple(picture for pictures in shown for picture in pictures)
            yield Sample(line.id, pictures, *asked, line.group, line.boxes)

    def questions(self, limit: int | None = None) -> Iterator[tuple[str, str]]:
        """Each question after the line that it stands in, without its pictures."""
        for line in islice(self._lines, limit):
            yield line.where, line.question

    def left_out(self, limit: int | None = None) -> int:
        """How many of the first ``limit`` questions are left out for their pictures.

        Raises:
            UsageError: questions whose pictures cannot be read, and nothing says to leave them out.
        """
        wrong = [why for line in islice(self._lines, limit) if (why := self._wrong(line))]
        if not self._skip and wrong:
            more = f"; {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
            skip = "" if len(wrong) == 1 else ". task.on_bad=skip leaves such questions out"
            raise UsageError("; ".join(wrong[:NAMED]) + more + skip)
        return len(wrong)

    def score(self, sample: Sample, answer: str) -> float:
        """As the task was told; without that by the option that is named where there are some, and
        1 where the whole answer is an accepted one otherwise.
        """
        if self._score is not None:
            return float(self._score(answer, sample.answers))
        if sample.id in self._options:
            return scorer("choice")(answer, sample.answers)
        return exact(answer, sample.answers)

    def _wrong(self, line: Line) -> str | None:
        """Why a picture of a question cannot be read."""
        for one in line.pictures:
            reason = _reason(self.folder, one)
            if reason is not None:
                return f"{line.where}: cannot read the picture {_named(one)}: {reason}"
        return None

    @property
    def clips(self) -> str:
        """Where the first question about a video file stands; empty if there is none."""
        return next((line.where for line in self._lines if any(map(is_clip, line.pictures))), "")

    def _shown(self, line: Line, picture: Picture) -> tuple[Image, ...]:
        """A picture, or the frames of a video file."""
        try:
            if isinstance(picture, str) and is_clip(picture):
                return read_clip(self.folder / picture, self._clip_frames)
            return (_opened(self.folder, picture),)
        except PictureError as error:
            named = _named(picture)
            raise UsageError(f"{line.where}: cannot read the picture {named}: {error}") from None


def _opened(folder: Path, picture: Picture) -> Image:
    """A picture; of a video file its first frame."""
    if isinstance(picture, str) and is_clip(picture):
        return read_clip(folder / picture, 1)[0]
    return picture_of(picture) if isinstance(picture, bytes) else read_picture(folder / picture)


def _reason(folder: Path, picture: Picture) -> str | None:
    if isinstance(picture, bytes):
        return _why(folder, picture, 0, 0)
    try:
        state = (folder / picture).stat()
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
    return _why(folder, picture, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=100_000)  # cells of a grid share their pictures
def _why(folder: Path, picture: Picture, *_: int) -> str | None:
    try:
        _opened(folder, picture)
    except PictureError as error:
        return str(error)
    return None


def _named(picture: Picture) -> str:
    """A picture's file name; of one that a table holds, a digest."""
    if isinstance(picture, str):
        return picture
    return f"in the table ({blake2b(picture, digest_size=8).hexdigest()})"


def _checked(found: Iterator[Entry], file: Path, *, boxes: bool) -> list[Line]:
    """The questions of a file, in order.

    Args:
        found: what the file holds.
        file: for messages.
        boxes: whether four numbers are one answer.

    Raises:
        UsageError: it cannot be read, a line is no question, or two have one id.
    """
    lines: list[Line] = []
    places: dict[str, Entry] = {}
    for entry in found:
        line = _line(entry, boxes)
        if line.id in places:
            first = places[line.id]
            word = first.where.rsplit(" ", 2)[-2]
            raise UsageError(
                f"{first.file}: {word}s {first.number} and {entry.number} have one id, {line.id!r}"
                f" (a {word} without an id has its number); give each question an id of its own"
            )
        places[line.id] = entry
        lines.append(line)
    if not lines:
        raise UsageError(f"{file} holds no question; docs/own_data.md shows what is wanted")
    return lines


def _line(entry: Entry, boxes: bool) -> Line:
    where, values = entry.where, entry.values
    missing = [name for name in ("image", "question", "answer") if name not in values]
    if missing:
        raise UsageError(
            f"{where}: {', '.join(sorted(missing))} missing; image, question and answer are wanted"
            " (other columns: task.columns={question: prompt})"
        )
    question = values["question"]
    if not isinstance(question, str) or not question.strip():
        raise UsageError(f"{where}: question is {_shown(question)}, a text is wanted")
    options = _choices(where, values)
    answer = str(values["answer"]) if boxes and _is_box(values["answer"]) else values["answer"]
    answers = _answers(where, answer, options)
    reason = _of_letters(options, answers) if options else _of_options(question, answers)
    if reason is not None:
        raise UsageError(f"{where}: answer is {_shown(values['answer'])}; {reason}")
    return Line(
        where,
        _name(where, "id", values.get("id"), str(entry.number)),
        _pictures(where, values["image"]),
        _asked(values, question, options),
        answers,
        _name(where, "ability", values.get("ability"), "all"),
        options,
        _boxes(where, values),
    )


def _is_box(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 4
    return numbers and all(isinstance(one, (int, float)) for one in value)


def _asked(values: Mapping[str, Any], question: str, options: Sequence[str]) -> str:
    """The text of a question: its hint, itself, its options by letter."""
    hint = values.get("hint")
    listed = [f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False)]
    parts = [hint if isinstance(hint, str) else "", question, *listed, LETTER if listed else ""]
    return "\n".join(part for part in parts if part)


def _choices(where: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of a question, in the order of their letters.

    Raises:
        UsageError: they are no texts, or a letter is left out.
    """
    given = values.get("options")
    if given is None or given == "":
        letters = [letter for letter in LETTERS if letter in values]
        if letters != list(LETTERS[: len(letters)]):
            raise UsageError(f"{where}: options {', '.join(letters)}: a letter is left out")
        given = [values[letter] for letter in letters]
    if not isinstance(given, list) or len(given) > len(LETTERS):
        raise UsageError(f"{where}: options is {_shown(given)}, a list of texts is wanted")
    for one in given:
        if isinstance(one, bool) or not isinstance(one, (str, int, float)) or not str(one).strip():
            raise UsageError(f"{where}: options is {_shown(given)}, a list of texts is wanted")
    return tuple(map(str, given))


def _of_letters(options: Sequence[str], answers: Sequence[str]) -> str | None:
    """Why none of the accepted answers is one of a question's options; None if one is."""
    letters = LETTERS[: len(options)]
    texts = {text.strip() for text in options}
    if any(answer.strip().upper() in letters or answer.strip() in texts for answer in answers):
        return None
    return f"none of its options {', '.join(letters)} is accepted, so no reply could be right"


def _boxes(where: str, entry: Mapping[str, Any]) -> tuple[tuple[Box, ...], ...]:
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


def _pictures(where: str, value: Any) -> tuple[Picture, ...]:
    names = value if isinstance(value, list) else [value]
    for name in names:
        usable = isinstance(name, bytes) or (isinstance(name, str) and "\0" not in name)
        if not usable or not name:
            raise UsageError(f"{where}: image is {_shown(value)}, names of files are wanted")
    if len(names) > 1 and any(map(is_clip, names)):
        raise UsageError(f"{where}: image is {_shown(value)}, one video file alone is wanted")
    return tuple(names)


def _answers(where: str, value: Any, options: Sequence[str]) -> tuple[str, ...]:
    """Accepted answers as texts; what is no label is refused rather than taken by its spelling. Of
    a question with options, a whole number counts them from 0; its letter and its text stand for
    each other.
    """
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
    if not options:
        return tuple(map(str, accepted))
    texts = [text.strip() for text in options]
    found: list[str] = []
    for answer in accepted:
        text = str(answer).strip()
        place = answer if isinstance(answer, int) else None
        if place is not None and not 0 <= place < len(options):
            raise UsageError(f"{where}: answer is {place}; its options count from 0")
        if place is None and text in texts:
            place = texts.index(text)
        elif place is None and len(text) == 1 and text.upper() in LETTERS[: len(options)]:
            place = LETTERS.index(text.upper())
        found += [text] if place is None else [LETTERS[place], options[place]]
    return tuple(dict.fromkeys(found))


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
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."
