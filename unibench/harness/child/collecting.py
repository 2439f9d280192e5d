"""What our own model object would be asked in a harness, written down for an engine that answers
it in another process.

The harness walks its benchmark as it always does; where the model would answer, the question is
written into a folder of the cell, and the walk ends before anything is scored. Once the engine has
answered, the harness walks again, finds every answer there and scores them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL.Image import Image

from unibench.errors import UsageError
from unibench.harness.child.inference import Answering, CellInference
from unibench.harness.collected import Collection
from unibench.identity import Cell
from unibench.inference.ask import Question
from unibench.inference.record import Record
from unibench.models import LoadedModel, Piece
from unibench.models._template import prompted


class CollectedError(Exception):
    """Everything is written down, and the harness goes no further."""


class Unanswered(Answering):
    """A question that nobody answers here."""

    def rounds(self, *, plain: bool = False) -> Iterator[None]:
        """None: the model is not asked."""
        return iter(())


class Collecting(CellInference):
    """Writes down the questions of a cell that the store has no answers to.

    Args:
        cell, loaded, known, say: see :class:`CellInference`; the model needs no weights.
        folder: is made, for the questions.

    Attributes:
        total: samples of the benchmark.
    """

    def __init__(
        self,
        cell: Cell,
        loaded: LoadedModel,
        known: Mapping[str, Record],
        say: Callable[[dict[str, Any]], None],
        folder: Path,
    ) -> None:
        super().__init__(cell, loaded, known, say)
        self._collection, self.total = Collection(folder), 0
        self._turn: tuple[Sequence[Piece], int] | None = None

    @property
    def turns(self) -> bool:
        """Always: what is asked is written as a turn."""
        return True

    @property
    def names(self) -> list[str]:
        """The samples that were written down."""
        return self._collection.names

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Nothing is pruned, since nothing is read."""
        yield

    def begin(self, total: int) -> None:
        """Note how many samples there are."""
        self.total = total

    def knows(self, sample: str) -> bool:
        """Whether a sample has been answered or written down."""
        return sample in self._known or sample in self._prompts

    def prompted(
        self, question: Question, pieces: list[Piece], max_new_tokens: int
    ) -> tuple[Question, LoadedModel, list[Piece]]:
        """See :meth:`CellInference.prompted`; :meth:`asking` writes what was handed in last."""
        self._turn = pieces, self.settings(max_new_tokens)["max_new_tokens"]
        return question, self.loaded, pieces

    @contextmanager
    def asking(self, question: Question) -> Iterator[Answering]:
        """Nothing is answered inside the block; after it the question is written."""
        yield Unanswered()
        if self._turn is None:
            raise UsageError(f"sample {question.id} was not put to unibench's own model object")
        (pieces, length), self._turn = self._turn, None
        # what the model's processor refuses is refused before an engine is started
        self.loaded.read([pieces])
        content = [
            {"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image"}
            for piece in pieces
        ]
        template = self.loaded.processor.apply_chat_template
        text = prompted(template, content, "the model's chat template")
        images = [piece for piece in pieces if isinstance(piece, Image)]
        self._collection.add(question, text, images, length)

    def answer(self, sample: str) -> str:
        """None yet."""
        self._prompts[sample] = ""
        return ""

    def all_asked(self) -> None:
        """End the walk.

        Raises:
            CollectedError: always.
        """
        raise CollectedError
