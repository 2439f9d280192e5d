"""The samples of many cells, each asked once by the harness and answered in all of them
(``fuse=cells``).

The harness walks its benchmark for the first cell alone. Where its model object has the model
generate, the prompt is read once and answered in every cell that lacks the sample; the object is
then handed the tokens of one answer after the other, and makes of each the text that it would have
made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unibench.errors import UsageError
from unibench.fused import Reply
from unibench.harness.child.inference import Answering, CellInference
from unibench.identity import Cell
from unibench.inference.ask import Question
from unibench.inference.record import Record
from unibench.inference.together import Together
from unibench.models import LoadedModel
from unibench.pruning._transformers import greedy


class FusedInference(CellInference):
    """Answers the samples of the first of some cells, and those of the others with them.

    Args:
        cells: of one setting.
        together: the same.
        loaded: the model and its processor.
        known: records by sample, of each cell.
        say: sends an event to the parent.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        together: Together,
        loaded: LoadedModel,
        known: Sequence[Mapping[str, Record]],
        say: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__(cells[0], loaded, known[0], say)
        self._together, self._keys = together, [cell.key for cell in cells]
        # the first is the one that the harness scores
        self._of_cells = [self._known, *map(dict, known[1:])]

    @property
    def _about(self) -> dict[str, Any]:
        return {"together": self._together.numbers, "fused": self._keys}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Nothing is pruned but what is asked, by :meth:`asking`."""
        yield

    def knows(self, sample: str) -> bool:
        """Whether a sample has been answered in every cell."""
        return not self._lacking(sample)

    def _lacking(self, sample: str) -> list[int]:
        return [one for one in self._together.numbers if sample not in self._of_cells[one]]

    @contextmanager
    def asking(self, question: Question) -> Iterator[Answering]:
        """Inside the block, the model answers a question in all cells that lack it."""
        wanted = self._lacking(question.id)
        answering = AnsweringAll(self.loaded, self._together, question.id, wanted)
        with torch.inference_mode(), answering.listening():
            yield answering
        replies = answering.checked()
        records = self._together.records(question, wanted, replies, answering.said)
        for left, given in zip(reversed(range(len(wanted))), records, strict=True):
            event: dict[str, Any] = {"cell": given.cell, "left": left}
            if given.record is None:
                reason = f"{type(given.error).__name__}: {given.error}".partition("\n")[0]
                usage = isinstance(given.error, UsageError)
                self._say({"event": "lost", **event, "message": reason, "usage": usage})
                continue
            record = replace(given.record, frames=answering.frames)
            self._of_cells[given.cell][question.id] = record
            self._say({"event": "sample", **event, "record": record.as_json()})
        if 0 in self._together.failed:
            raise self._together.failed[0]


class AnsweringAll(Answering):
    """A question that is being answered in many cells.

    Args:
        loaded: the model.
        together: the cells.
        name: of the sample.
        wanted: cells that lack it.
    """

    def __init__(
        self, loaded: LoadedModel, together: Together, name: str, wanted: Sequence[int]
    ) -> None:
        super().__init__()
        self._loaded, self._together, self._name, self._wanted = loaded, together, name, wanted
        self._replies: list[Reply] | None = None
        self._texts: dict[tuple[int, ...], str] = {}
        self._now: tuple[int, ...] = ()
        self._calls, self._refused = 0, ""

    def rounds(self, *, plain: bool = False) -> Iterator[None]:
        """Once, so that the question is answered in all cells, and then once more for each further
        answer, which the model object puts into words.
        """
        yield from self._round()
        first = self.text
        for reply in self._replies or ():
            tokens = tuple(reply.tokens)
            if reply.error is not None or tokens in self._texts:
                continue
            if plain:
                self._texts[tokens] = self._loaded.answers(torch.tensor([tokens]))[0]
            else:
                self._now = tokens
                yield from self._round()
        self.text = first

    def _round(self) -> Iterator[None]:
        self._calls = 0
        yield
        if self._calls != 1:
            self._refused = self._refused or f"the model was asked {self._calls} times for it"
        self._texts[self._now] = self.text

    def said(self, tokens: Sequence[int]) -> str:
        """The text that the harness's model object made of an answer."""
        return self._texts[tuple(tokens)]

    def checked(self) -> list[Reply]:
        """The replies.

        Raises:
            UsageError: the question was not put as cells that share it must be asked.
        """
        # said here and not where it happens: harnesses swallow errors of their model objects
        if self._refused or self._replies is None:
            reason = self._refused or "the model was not asked"
            raise UsageError(f"sample {self._name}: fuse=cells: {reason}; leave fuse out")
        return self._replies

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, ``generate`` of the model answers in all cells."""
        model = self._loaded.model
        plain = model.generate

        @functools.wraps(plain)
        def generate(*args: Any, **kwargs: Any) -> Tensor:
            self._calls += 1
            ids: Any = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
            if self._replies is None:
                self._replies = self._asked(functools.partial(plain, *args, **kwargs), kwargs)
                answered = [reply for reply in self._replies if reply.error is None]
                # without any, what the object makes of nothing is thrown away
                self._now = tuple(answered[0].tokens) if answered else ()
            now = torch.tensor([self._now], dtype=ids.dtype, device=ids.device)
            return torch.cat([ids, now], 1)

        # on the instance: the class serves other models
        model.generate = generate
        try:
            yield
        finally:
            del model.generate

    def _asked(self, read: Callable[[], object], given: Mapping[str, Any]) -> list[Reply]:
        config, more = greedy(self._loaded.model, given)
        if more is not None:
            self._refused = f"the harness's model object decodes by more than fusing knows ({more})"
            raise UsageError(self._refused)
        ended = given.get("stopping_criteria") or None
        return self._together.replies(self._name, self._wanted, read, config, ended)
