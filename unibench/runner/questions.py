"""Questions of one's own: what is none, what is there twice, what would not be read as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from PIL.Image import Image

from unibench.config import TaskConfig
from unibench.errors import UsageError, shown
from unibench.identity import Cell
from unibench.tasks import Sample, Task

BRACKETED = re.compile(r"<[^<>]+>|\[[^\[\]]+\]")  # as all special words are


def refuse_control_words(questions: Iterable[tuple[str, str]], cell: Cell) -> None:
    """Name the first question that holds a word of the model's own, before the model is loaded.

    Args:
        questions: each after its place.
        cell: whose model is asked.

    Raises:
        UsageError: there is one.
    """
    # without a word in brackets, no processor need be read
    suspects = [(place, text) for place, text in questions if BRACKETED.search(text)]
    if not suspects:
        return
    from unibench.models import control_word_in, control_words, processor_of, reads_as_its_own

    words = control_words(processor_of(cell.config.model))
    for place, text in suspects:
        if (word := control_word_in(text, words)) is not None:
            raise UsageError(f"{place}: {reads_as_its_own(cell.config.model.name, word)}")


def refuse_control_words_of(task: Task, cell: Cell) -> None:
    """See :func:`refuse_control_words`; of a task that tells its questions at once."""
    questions = getattr(task, "questions", None)
    if questions is not None:
        refuse_control_words(questions(cell.config.task.limit), cell)


def samples_of(task: Task, config: TaskConfig) -> Iterator[tuple[int, Sample]]:
    """The samples of a task, each after its index.

    Raises:
        UsageError: one is no question, or has the id of another; the message says which.
    """
    places: dict[str, int] = {}
    for index, sample in enumerate(islice(task.samples(config.limit), config.limit)):
        if (reason := _no_question(sample)) is not None:
            raise UsageError(f"task {config.name}, sample {index}, counted from 0: {reason}")
        if sample.id in places:
            raise UsageError(
                f"task {config.name}: samples {places[sample.id]} and {index}, counted from 0, have"
                f" one id, {shown(repr(sample.id))}; give each an id of its own"
            )
        places[sample.id] = index
        yield index, sample


def _no_question(sample: Sample) -> str | None:
    """Why a sample cannot be asked and scored; a task of one's own may yield anything."""
    if not isinstance(sample, Sample):
        return f"a {type(sample).__name__}, and no Sample"
    texts = {"id": sample.id, "question": sample.question, "ability": sample.ability}
    for name, value in (*texts.items(), ("group", sample.group)):
        if not isinstance(value, str) or (name in ("id", "question") and not value.strip()):
            return f"{name} is {shown(repr(value))[:40]}, a text is wanted"
    answers = sample.answers
    if not isinstance(answers, tuple) or not all(isinstance(one, str) and one for one in answers):
        return f"answers is {shown(repr(answers))[:40]}, a tuple of texts is wanted"
    if not answers:
        return "it has no answer to score against"
    if not all(isinstance(picture, Image) for picture in sample.images):
        return "images are to be pictures of PIL"
    return None
