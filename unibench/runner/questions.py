"""Questions of one's own that a model would not read as text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from unibench.errors import UsageError
from unibench.identity import Cell

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
