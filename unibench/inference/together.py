"""All cells of one model and task, answered prompt by prompt (``fuse=cells``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from transformers import GenerationConfig

from unibench.cost.flops import decoder_shape
from unibench.fused import Fusion, Reply, apart
from unibench.fused.decoding import Ended
from unibench.identity import NO_CONTROL, Cell
from unibench.inference.ask import (
    Question,
    frames_of,
    generated,
    prompt_texts,
    question_of,
    record_of,
    shown,
    turn_of,
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
        record: without times; None where the method failed.
        error: why it did.
    """

    cell: int
    record: Record | None
    error: Exception | None = None


class Together:
    """Cells that differ in what is compared alone, asked together.

    Args:
        cells: of one setting.
        loaded: the cells' model.
        rows: most cells that are in memory together.
        reuse: remembers vision features for later samples.

    Attributes:
        alone: by number of the cell, why it is answered by itself.
        failed: by number of the cell, why it is not answered any more.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        loaded: LoadedModel,
        *,
        rows: int,
        reuse: Reuse | None = None,
    ) -> None:
        self._loaded, self._size = loaded, len(cells)
        self.alone: dict[int, str] = {}
        self.failed: dict[int, Exception] = {}
        sessions: dict[int, Session] = {}
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
                sessions[number] = session
            else:
                self.alone[number] = reason
        self._numbers = list(sessions)
        self._fusion = Fusion(loaded.family, list(sessions.values()), rows=rows, reuse=reuse)
        self._shape = decoder_shape(loaded.family.text_model.config, loaded.model.dtype.itemsize)

    @property
    def numbers(self) -> list[int]:
        """The cells that are answered together."""
        return [number for number in self._numbers if number not in self.failed]

    def replies(
        self,
        name: str,
        wanted: Sequence[int],
        read: Callable[[], object],
        config: GenerationConfig,
        ended: Ended | None = None,
    ) -> list[Reply]:
        """Put a question in some of the cells.

        Args:
            name: of the sample.
            wanted: cells, of :attr:`numbers`.
            read: has the model read the prompt by ``generate``; it ends at the first decoder layer.
            config: greedy decoding.
            ended: stopping criteria, see :func:`unibench.fused.decoding.decoded`.

        Raises:
            Exception: the question cannot be put at all.
        """
        places = [self._numbers.index(number) for number in wanted]
        return self._fusion.answer(name, places, read, config, ended)

    def records(
        self,
        question: Question,
        wanted: Sequence[int],
        replies: Sequence[Reply],
        said: Callable[[Sequence[int]], str],
    ) -> Iterator[Given]:
        """The records of a question that was put, without a score; a cell with an error has failed.

        Args:
            question: what is known of it.
            wanted, replies: of :meth:`replies`.
            said: the text of an answer's tokens.
        """
        text: str | None = None
        for number, reply in zip(wanted, replies, strict=True):
            try:
                if reply.error is not None or reply.prompt is None:
                    raise reply.error or RuntimeError("a reply without a prompt")
                if text is None:  # one prompt for all
                    (text,) = prompt_texts(self._loaded, reply.session)
                record = record_of(
                    question,
                    reply.prompt,
                    said(reply.tokens),
                    len(reply.tokens),
                    self._shape,
                    prompt_text=text,
                    notes=tuple(sorted(reply.session.notes)),
                )
            except Exception as error:  # of this cell; the others have their answers
                yield self.fail(number, error)
                continue
            yield Given(number, replace(record, beside=self._beside(reply)))

    def fail(self, number: int, error: Exception) -> Given:
        """A cell is not answered any more."""
        self.failed[number] = error
        return Given(number, None, error)

    def _beside(self, reply: Reply) -> str:
        company = torch.zeros(self._size, dtype=torch.bool)
        company[[self._numbers[place] for place in reply.beside]] = True
        return packed(company)


def answer_together(
    together: Together,
    cell: Cell,
    task: Task,
    loaded: LoadedModel,
    config: GenerationConfig,
    index: int,
    sample: Sample,
    wanted: Sequence[int],
) -> Iterator[Given]:
    """Answer a sample of an embedded task in some of the cells, and score the answers.

    Args:
        together: the cells.
        cell: one of them.
        task: scores.
        loaded: the cells' model, as it shows videos.
        config: greedy decoding.
        index: of the sample in the task.
        sample: the sample.
        wanted: numbers of cells.
    """
    sample = shown(sample)
    question = question_of(loaded, index, sample)
    frames = frames_of(sample, cell.config)
    turn = turn_of(sample, frames)

    def said(tokens: Sequence[int]) -> str:
        return loaded.answers(torch.tensor([list(tokens)]))[0]

    replies = together.replies(
        question.id, wanted, lambda: generated(loaded, [turn], config), config
    )
    for given in together.records(question, wanted, replies, said):
        if given.record is None:
            yield given
            continue
        try:
            score = float(task.score(sample, given.record.answer))
        except Exception as error:  # as in a cell that is answered alone
            yield together.fail(given.cell, error)
            continue
        shown_as = () if frames is None else (frames,)
        yield replace(given, record=replace(given.record, score=score, frames=shown_as))


def company(keys: Sequence[str], beside: str) -> list[str]:
    """The keys of the cells that a sample was answered in together.

    Args:
        keys: ``fused`` of the environment of the sample's run.
        beside: of the sample.
    """
    return [key for key, bit in zip(keys, unpacked(beside, len(keys)), strict=True) if bit]
