"""What the stages of a method compute, counted by running them once more."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from unibench.cost.operations import unseen
from unibench.ops import Work, at_least_float32, counted
from unibench.pruning.checking import Lent
from unibench.pruning.context import StageContext, unheard
from unibench.pruning.prefill import Prefill, Reading
from unibench.pruning.randomness import GlobalDraws

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Before:
    """What a context's memory held before its method was asked."""

    held: dict[str, Tensor]
    copy: dict[str, Tensor]

    def unchanged(self, memory: dict[str, Tensor]) -> bool:
        return memory.keys() == self.held.keys() and all(
            # both: a tensor may be replaced, or written into
            memory[key] is value and torch.equal(value, self.copy[key])
            for key, value in self.held.items()
        )


# fields of a context whose sizes are those of the whole prompt, and what earlier stages made of it
WHOLE = frozenset({"hidden", "origin", "input_ids", "query_key", "rotary", "clip", "memory"})


@dataclass(frozen=True)
class _Watched(StageContext):
    """A context that notes whether its method looks at more than the visual tokens.

    Attributes:
        looked: fields of :data:`WHOLE` that were read.
    """

    looked: set[str] = field(default_factory=set, repr=False)

    @classmethod
    def of(cls, ctx: StageContext, memory: dict[str, Tensor]) -> _Watched:
        """A context with a memory of its own, whose remarks nobody hears."""
        given = {one.name: getattr(ctx, one.name) for one in fields(StageContext)}
        return cls(**{**given, "memory": memory, "note": unheard})

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name in WHOLE and not (name == "memory" and not value):
            self.looked.add(name)
        return value

    @property
    def visual_hidden(self) -> Tensor:
        hidden: Tensor = super().__getattribute__("hidden")
        return at_least_float32(hidden[self.visual])


class Arithmetic:
    """Counts each piece of a method's work once for every distinct shape, beside the clock. The
    length of the prompt is part of the shape for methods that look at more than visual tokens.

    Where a selection's work depends on what the picture shows and not on sizes alone, the count is
    that of the first sample of its shape.

    Args:
        reading: the prefill under way, whose spans exclude the counting.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._known: dict[Hashable, Work] = {}
        self._drawn = GlobalDraws(reading.clock.device)

    def of(self, prefill: Prefill, key: Hashable, again: Callable[[], object]) -> Work:
        """The work of something that has just run.

        Args:
            prefill: under way.
            key: what it was and of which shape.
            again: runs it once more and leaves no trace.
        """
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._counted(prefill, again)
        return known

    def _counted(self, prefill: Prefill, again: Callable[[], object]) -> Work:
        with self._reading.timed(prefill.spans.excluded), unseen(), torch.no_grad():
            with _random_numbers_kept(self._reading.clock.device):
                return _work_of(again)

    def alike(self, key: Hashable, seed: Callable[[], int]) -> AbstractContextManager[None]:
        """Within, a method asked about something other than a context draws alike in every run.

        Args:
            key: what it is asked and of which shape.
            seed: from what is asked.
        """
        return self._drawn.seeded(seed, look=key not in self._known)

    def asked(
        self,
        prefill: Prefill,
        keys: tuple[Hashable, Hashable],
        ask: Callable[[StageContext], Answer],
        ctx: StageContext,
        who: str,
    ) -> tuple[Answer, Work]:
        """What a method answers about a context, and what that cost.

        The first answer of each shape is watched: what the method was lent must be left alone.
        A method that neither chooses nor leaves anything in ``ctx.memory`` only looks: it is not
        asked twice and costs nothing.

        Args:
            prefill: under way.
            keys: what is asked and of which shape: that of the visual tokens, and that of the
                prompt.
            ask: the method.
            ctx: the context.
            who: names the method in an error.
        """
        of_tokens, of_prompt = keys
        known = self._known.get(of_tokens) or self._known.get(of_prompt)
        # the context's own seed, so that a global draw depends on run, sample and layer as well
        with self._drawn.seeded(lambda: ctx.generator().initial_seed(), look=known is None):
            if known is not None:
                return ask(ctx), known
            with self._reading.timed(prefill.spans.excluded):
                # copied before the first answer: the second must start from what that one saw
                before = _Before(dict(ctx.memory), _copied(ctx.memory))
                lent = _lent(prefill, ctx)
            answer = ask(ctx)
            with self._reading.timed(prefill.spans.excluded):
                lent.check(who)
                if answer is None and before.unchanged(ctx.memory):
                    return answer, Work()
            # remarks of a rerun would be those of the answer once more
            beside = _Watched.of(ctx, before.copy)
            work = self._counted(prefill, lambda: ask(beside))
            self._known[of_prompt if beside.looked else of_tokens] = work
        return answer, work


def _work_of(again: Callable[[], object]) -> Work:
    try:
        with counted() as work:
            again()
    except Exception as error:  # a count is no reason to lose an answer, but it must not look free
        return Work(uncounted=(f"everything ({type(error).__name__} when it ran again)",))
    return work


def _lent(prefill: Prefill, ctx: StageContext) -> Lent:
    """What a method could change in place."""
    tensors = {
        "ctx.hidden": ctx.hidden,
        "ctx.visual": ctx.visual,
        "ctx.origin": ctx.origin,
        "ctx.vision_rows": ctx.vision_rows,
        "ctx.input_ids": ctx.input_ids,
    }
    for calls in (*prefill.recorded.values(), list(prefill.entering.values())):
        for number, qk in enumerate(calls):
            # the keys of a prefill are the tensor that the cache holds
            tensors |= {f"keys {len(tensors)}.{number}": qk.key}
    return Lent(tensors)


def _copied(memory: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.clone() if isinstance(value, Tensor) else value for key, value in memory.items()
    }


def _random_numbers_kept(device: torch.device) -> AbstractContextManager[Any]:
    if device.type == "meta":
        return nullcontext()
    # the rerun draws the same numbers again, and the next sample must not notice
    return torch.random.fork_rng([device] if device.type == "cuda" else [])
