"""A method as the engine asks it, with what it answered and the line of its file where.

A fault that the engine finds after the answer (a token twice, a budget missed, a tensor of the
model's changed) has no traceback into the author's file. So the author's lines are followed while
the method is asked: Python says which line returned last, after which line a local value held NaN,
and after which line a tensor that was only lent had another version.
"""

from __future__ import annotations

import copy
import linecache
import random
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unibench.pruning import Method, Selection, Stage, StageContext
from unibench.pruning.context import unheard

LENT = ("hidden", "visual", "origin", "vision_rows", "input_ids")  # tensors of the model's
Probe = Callable[["Question"], None]


@dataclass(frozen=True)
class Question:
    """What a stage was asked, and what it answered.

    Attributes:
        stage: that was asked.
        ctx: as the stage saw it.
        answer: of the stage.
        place: the line that returned it; empty if none of the author's did.
        memory: of the sample, as it was before.
        sources: states of the global sources of random numbers before.
        watch: that followed it.
    """

    stage: Stage
    ctx: StageContext
    answer: Selection | None
    place: str
    memory: Mapping[str, Tensor]
    sources: tuple[Any, ...]
    watch: Watch = field(repr=False)

    @property
    def keep(self) -> Tensor | None:
        """Kept tokens in sequence order; None where all stay."""
        return None if self.answer is None else self.answer.keep.sort().values

    @property
    def values(self) -> Tensor | None:
        """Their new states, in the same order; None where they keep their own."""
        if self.answer is None or self.answer.values is None:
            return None
        return self.answer.values[self.answer.keep.sort().indices]

    def again(self, **changes: Any) -> Question:
        """The same question to the same stage, with another context.

        Args:
            **changes: fields of the context.
        """
        memory = {name: value.clone() for name, value in self.memory.items()}
        ctx = replace(self.ctx, note=unheard, memory=memory, **changes)
        _restore(self.sources)
        with self.watch.tracing(ctx):
            return replace(self, ctx=ctx, answer=self.stage.select(ctx))


class Watch:
    """Follows a method through every question of a session.

    Args:
        files: of the author.
        probes: are called after each answer, while what the context reads is still there.

    Attributes:
        questions: in the order in which they were asked.
        place: the last line of the author's that returned something.
        nan: the line after which NaN or infinity first stood in a local value.
        changed: the line after which a tensor that was lent had changed, and its name.
        largest: the line after which the largest local tensor was there, and its shape.
    """

    def __init__(self, files: Collection[Path], probes: Sequence[Probe] = ()) -> None:
        self.files = frozenset(str(file.resolve()) for file in files)
        self.probes = probes
        self.questions: list[Question] = []
        self.place = self.nan = self.changed = self.largest = ""
        self._numel = 0
        self._versions: dict[str, tuple[Tensor, int]] = {}

    def ask(self, stage: Stage, ctx: StageContext) -> Selection | None:
        """The answer of a stage."""
        if ctx.note is unheard:  # the engine asks once more to count what the answer cost
            return stage.select(ctx)
        memory = {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in ctx.memory.items()
        }
        sources = _sources()
        with self.tracing(ctx):
            answer = stage.select(ctx)
        question = Question(stage, ctx, answer, self.place, memory, sources, self)
        self.questions.append(question)
        if isinstance(answer, Selection):  # anything else is refused by the engine
            for probe in self.probes:
                probe(question)
        return answer

    @contextmanager
    def tracing(self, ctx: StageContext) -> Iterator[None]:
        """Follow the lines of the author's files for the length of the block."""
        self._versions = {
            name: (value, version)
            for name in LENT
            if (value := getattr(ctx, name)) is not None
            and (version := _version(value)) is not None
        }
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None  # nothing is followed inside of other files
        return partial(self._step, [frame.f_lineno])

    def _step(self, last: list[int], frame: FrameType, event: str, argument: Any) -> Any:
        # a line event comes before its line runs: what is there now, the line before has made
        self._look(frame.f_locals.values(), frame.f_code.co_filename, last[0])
        if event == "return" and argument is not None:
            self._look([argument], frame.f_code.co_filename, frame.f_lineno)
            self.place = line(frame.f_code.co_filename, frame.f_lineno)
        last[0] = frame.f_lineno
        return partial(self._step, last)

    def _look(self, values: Iterable[Any], file: str, number: int) -> None:
        for value in list(values):
            if not isinstance(value, Tensor) or value.is_meta:
                continue
            if value.numel() > self._numel:
                self._numel = value.numel()
                shape = tuple(value.shape)
                self.largest = f"{line(file, number)} (a tensor of {shape})"
            if not self.nan and value.is_floating_point() and not bool(value.isfinite().all()):
                self.nan = line(file, number)
        for value, version in self._versions.values():
            if not self.changed and _version(value) != version:
                self.changed = line(file, number)


def watched(method: Method, watch: Watch) -> Method:
    """The same method, whose stages are asked through a watch."""
    cls = type(method)

    def stages(self: Any, depth: int) -> Sequence[Stage]:
        whole = cls.stages(self, depth)
        return [replace(stage, select=partial(watch.ask, stage)) for stage in whole]

    # a subclass and no wrapper: messages name the author's class, and what it declares stays
    follower = type(cls.__name__, (cls,), {"stages": stages, "__module__": cls.__module__})
    copied = copy.copy(method)
    object.__setattr__(copied, "__class__", follower)
    return copied


def line(file: str, number: int) -> str:
    """A line of a file, for people."""
    return f"{file} line {number}: {linecache.getline(file, number).strip()}"


def _version(tensor: Tensor) -> int | None:
    """How often a tensor was written to; None where torch does not count."""
    return None if tensor.is_inference() else tensor._version


def _sources() -> tuple[Any, ...]:
    """States of the global sources of random numbers."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _restore(sources: tuple[Any, ...]) -> None:
    random.setstate(sources[0])
    np.random.set_state(sources[1])
    torch.set_rng_state(sources[2])


def drew(question: Question) -> bool:
    """Whether a global source has moved since a question was asked."""
    before, now = question.sources, _sources()
    same = bool(np.array_equal(before[1][1], now[1][1])) and before[1][2] == now[1][2]
    return not (same and before[0] == now[0] and torch.equal(before[2], now[2]))
