"""All cells of one model and task, answered prompt by prompt (``fuse=cells``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from unibench.cost.flops import decoder_shape
from unibench.fused import Fusion, Reply, apart
from unibench.identity import NO_CONTROL, Cell
from unibench.inference.ask import (
    Question,
    generated,
    prompt_texts,
    question_of,
    record_of,
    shown,
)
from unibench.inference.record import Record
from unibench.inference.session import session_of
from unibench.models import LoadedModel
from unibench.pruning import Session
from unibench.pruning.record import packed, unpacked
from unibench.pruning.vision import Reuse
from unibench.tasks import Sample, Task


@dataclass(frozen=True)
class Given:
    """What became of a sample in one cell.

    Attributes:
        cell: number of the cell.
        record: scored and without times; None where the method failed.
        error: why it did.
    """

    cell: int
    record: Record | None
    error: Exception | None = None


class Together:
    """Answers samples of an embedded task in many cells at once.

    Args:
        cells: of one setting; they differ in method, budget, seed and positions.
        task: scores the answers.
        loaded: the cells' model.
        rows: most cells that are in memory together.
        reuse: remembers vision features for later samples.

    Attributes:
        alone: by number of the cell, why it is answered by itself.
        failed: by number of the cell, why it cannot be answered at all.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        task: Task,
        loaded: LoadedModel,
        *,
        rows: int,
        reuse: Reuse | None = None,
    ) -> None:
        self._task, self._loaded, self._size = task, loaded, len(cells)
        self.alone: dict[int, str] = {}
        self.failed: dict[int, Exception] = {}
        # of the cells that share prompts, by number
        self._sessions: dict[int, Session] = {}
        for number, cell in enumerate(cells):
            if cell.config.control != NO_CONTROL:
                self.alone[number] = f"{cell.config.control} changes the prompt"
                continue
            try:
                session = session_of(cell, loaded)
            except Exception as error:  # a method that refuses is no reason for others to wait
                self.failed[number] = error
                continue
            if (reason := apart(session)) is None:
                self._sessions[number] = session
            else:
                self.alone[number] = reason
        self._numbers = list(self._sessions)
        decoding = cells[0].config.generation
        self._config = loaded.generation_config(
            decoding.max_new_tokens or task.max_new_tokens, decoding.penalty
        )
        self._fusion = Fusion(loaded.family, list(self._sessions.values()), rows=rows, reuse=reuse)
        self._shape = decoder_shape(loaded.family.text_model.config, loaded.model.dtype.itemsize)

    @property
    def numbers(self) -> list[int]:
        """The cells that are answered together."""
        return [number for number in self._numbers if number not in self.failed]

    @property
    def rows(self) -> int:
        """Most cells that are in memory together, after what memory has refused."""
        return self._fusion.rows

    def answer(self, index: int, sample: Sample, wanted: Sequence[int]) -> Iterator[Given]:
        """Answer a sample in some of the cells.

        Args:
            index: of the sample in the task.
            sample: the sample.
            wanted: numbers of cells, of :attr:`numbers`.

        Yields:
            One answer or error for each, in the order of the cells.

        Raises:
            Exception: the sample cannot be asked at all.
        """
        sample = shown(sample)
        question = question_of(self._loaded, index, sample)
        turns = [[*sample.images, sample.question]]
        replies = self._fusion.answer(
            question.id,
            [self._numbers.index(number) for number in wanted],
            # the model's own code reads the prompt, up to the first decoder layer
            lambda: generated(self._loaded, turns, self._config),
            self._config,
        )
        text: str | None = None
        for number, reply in zip(wanted, replies, strict=True):
            if reply.error is None and text is None:
                (text,) = prompt_texts(self._loaded, reply.session)
            try:
                if reply.error is not None:
                    raise reply.error
                record = self._record(sample, question, reply, text)
            except Exception as error:
                self.failed[number] = error
                yield Given(number, None, error)
                continue
            yield Given(number, record)

    def _record(self, sample: Sample, question: Question, reply: Reply, text: str | None) -> Record:
        assert reply.prompt is not None
        tokens = torch.tensor([list(reply.tokens)])
        (said,) = self._loaded.answers(tokens)
        notes = tuple(sorted(reply.session.notes))
        record = record_of(
            question,
            reply.prompt,
            said,
            len(reply.tokens),
            self._shape,
            prompt_text=text,
            notes=notes,
        )
        company = torch.zeros(self._size, dtype=torch.bool)
        company[[self._numbers[one] for one in reply.beside]] = True
        score = float(self._task.score(sample, record.answer))
        return replace(record, score=score, beside=packed(company))


def company(keys: Sequence[str], beside: str) -> list[str]:
    """The keys of the cells that stood beside a sample, its own included.

    Args:
        keys: ``fused`` of the environment of the sample's run.
        beside: of the sample.
    """
    return [key for key, bit in zip(keys, unpacked(beside, len(keys)), strict=True) if bit]
