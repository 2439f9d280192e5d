"""The answers of a cell: those that the store has, and the new ones on their way to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from unibench.harness.asking import Asker, Question


class Answers:
    """Stands between a harness and the model: what the store has is not asked again.

    Args:
        asker: the pruned model.
        known: records by sample.
        emit: is given each new record.
    """

    def __init__(self, asker: Asker, known: Mapping[str, Mapping[str, Any]], emit: Callable[[dict[str, Any]], None]) -> None:
        self._asker, self._known, self._emit = asker, dict(known), emit
        self._used: dict[str, str] = {}

    def of(self, sample: str, question: Callable[[], Question], answer: Callable[[], str]) -> str:
        """The answer to a sample.

        Args:
            sample: its name.
            question: called if it must be asked.
            answer: lets the model answer it.
        """
        if sample not in self._known:
            record = self._asker.ask(question(), answer)
            self._known[sample] = record
            self._emit(record)
        record = dict(self._known[sample])
        self._used[sample] = str(record["prompt"])
        return str(record["answer"])

    @property
    def prompts(self) -> str:
        """A hash of the prompts of all samples used."""
        digest = hashlib.blake2b(digest_size=8)
        for sample in sorted(self._used):
            digest.update(f"{sample}\0{self._used[sample]}\0".encode())
        return digest.hexdigest()
