"""Questions about one's own pictures: a folder with ``questions.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

from PIL import Image, UnidentifiedImageError

from unibench.errors import UsageError
from unibench.tasks._task import Sample


class Folder:
    """One JSON object per line: ``{"image": "a.png", "question": "...", "answer": "..."}``.

    ``image`` may be a list, ``answer`` a list of accepted answers; ``id`` and ``ability`` are
    optional.

    Args:
        data: the folder.
        max_new_tokens: length of the longest answer.
    """

    name: ClassVar[str] = "folder"
    metric: ClassVar[str] = "accuracy"

    def __init__(self, *, data: str | None = None, max_new_tokens: int = 16) -> None:
        if data is None:
            raise UsageError("task=folder needs task.data=<folder with questions.jsonl>")
        self.folder, self.max_new_tokens = Path(data).expanduser(), max_new_tokens
        if not (self.folder / "questions.jsonl").is_file():
            raise UsageError(f"task.data={data}: there is no questions.jsonl in it")

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """The first ``limit`` lines of the file."""
        lines = (self.folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
        return islice(
            (self._sample(number, line) for number, line in enumerate(lines, 1) if line.strip()),
            limit,
        )

    def score(self, sample: Sample, answer: str) -> float:
        """1 where the whole answer is an accepted one, whatever the case."""
        return float(
            answer.strip().lower() in {accepted.strip().lower() for accepted in sample.answers}
        )

    def _sample(self, number: int, line: str) -> Sample:
        try:
            entry = json.loads(line)
            images, answers = entry["image"], entry["answer"]
            names = [images] if isinstance(images, str) else list(images)
            accepted = tuple(map(str, answers)) if isinstance(answers, list) else (str(answers),)
            name, question = str(entry.get("id", number)), str(entry["question"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self.folder}/questions.jsonl line {number}: {error!r}; wanted image, question"
                " and answer"
            ) from None
        pictures = tuple(self._picture(number, file) for file in names)
        return Sample(
            name, pictures, question, accepted, str(entry.get("ability", "all")), "+".join(names)
        )

    def _picture(self, number: int, file: str) -> Image.Image:
        try:
            return Image.open(self.folder / file).convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise UsageError(
                f"{self.folder}/questions.jsonl line {number}: cannot read the picture {file}:"
                f" {error}"
            ) from None
