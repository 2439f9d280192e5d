"""What the stages of a method compute, counted by running them once more."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from unibench.cost.operations import unseen
from unibench.ops import Work, counted
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


class Arithmetic:
    """Counts each piece of a method's work once for every distinct shape, beside the clock.

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
            with self._reading.timed(prefill.spans.excluded), unseen(), torch.no_grad():
                with _random_numbers_kept(self._reading.clock.device):
                    known = self._known[key] = _work_of(again)
        return known

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
        key: Hashable,
        ask: Callable[[StageContext], Answer],
        ctx: StageContext,
        who: str,
    ) -> tuple[Answer, Work]:
        """What a method answers about a context, and what that cost.

        The first answer of each shape is watched: what the method was lent must be left alone.
        A method that neither chooses nor leaves anything in ``ctx.memory`` only looks: it is not
        asked twice and costs nothing.
        """
        known = self._known.get(key)
        # the context's own seed, so that a global draw depends on run, sample and layer as well
        with self._drawn.seeded(lambda: ctx.generator().initial_seed(), look=known is None):
            if known is not None:
                return ask(ctx), known
            return self._first(prefill, key, ask, ctx, who)

    def _first(
        self,
        prefill: Prefill,
        key: Hashable,
        ask: Callable[[StageContext], Answer],
        ctx: StageContext,
        who: str,
    ) -> tuple[Answer, Work]:
        """The answer to the first question of its shape, and what it cost."""
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
        beside = replace(ctx, memory=before.copy, note=unheard)
        return answer, self.of(prefill, key, lambda: ask(beside))


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
