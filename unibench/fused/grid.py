"""All methods of a grid on one prompt."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce

import torch
from transformers import GenerationConfig

from unibench.cost.memory import out_of_memory
from unibench.fused.decoding import Ended, decoded
from unibench.fused.opening import Opened, opened
from unibench.fused.reading import Layers, Reading
from unibench.pruning import Session
from unibench.pruning.after_video import text_behind
from unibench.pruning.family import Family
from unibench.pruning.record import PromptRecord
from unibench.pruning.session import attached
from unibench.pruning.stage import Needs
from unibench.pruning.vision import Reuse

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """What became of a prompt under one method.

    Attributes:
        session: the method.
        tokens: of the answer, its end token included.
        prompt: what pruning did; None where the method failed.
        beside: the rows that were answered with it, itself included, as indices of the sessions.
        error: why there is no answer.
    """

    session: Session
    tokens: Sequence[int]
    prompt: PromptRecord | None
    beside: tuple[int, ...]
    error: Exception | None = None


class Fusion:
    """Answers prompts under several methods at once.

    Args:
        family: of the model.
        sessions: the methods; none of them :func:`~unibench.fused.apart`.
        rows: most methods that are in memory together. When memory runs out it is halved, for this
            and all later prompts.
        reuse: remembers features, where no method looks into the tower.
    """

    def __init__(
        self, family: Family, sessions: Sequence[Session], *, rows: int, reuse: Reuse | None
    ) -> None:
        self.family, self.sessions, self.rows, self._reuse = family, sessions, rows, reuse

    def answer(
        self,
        name: str,
        wanted: Sequence[int],
        read: Callable[[], object],
        config: GenerationConfig,
        ended: Ended | None = None,
    ) -> list[Reply]:
        """The replies of some of the methods to one prompt, in their order.

        Args:
            name: of the sample.
            wanted: indices of the sessions.
            read: has the model read the prompt, as ``generate`` does.
            config: greedy decoding.
            ended: stopping criteria, see :func:`~unibench.fused.decoding.decoded`.

        Raises:
            OutOfMemoryError: a single row is too much.
            UsageError: the model is being pruned already, or the prompt cannot be pruned.
        """
        needs = reduce(Needs.__or__, [self.sessions[one].plan.needs for one in wanted], Needs())
        replies: dict[int, Reply] = {}
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(attached(self.family.model))
            # of the setting, and so one for all
            rule = self.sessions[wanted[0]].text_after_video
            stack.enter_context(text_behind(self.family, rule))
            prompt = opened(self.family, needs, self._reuse, name, read)
            # rows that share layers of the whole prompt stand together
            left = sorted(wanted, key=lambda one: self._first(self.sessions[one]), reverse=True)
            while left:
                now = left[: self.rows]
                try:
                    replies.update(self._answered(prompt, now, config, ended))
                except (RuntimeError, MemoryError) as error:
                    if len(now) == 1 or not out_of_memory(error):
                        raise
                    self.rows = len(now) // 2
                    log.warning("out of memory at %d cells, going on with %d", len(now), self.rows)
                else:
                    left = left[len(now) :]
                    continue
                # outside of the except clause, which keeps the tensors that did not fit alive
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        return [replies[one] for one in wanted]

    def _first(self, session: Session) -> int:
        """The layer in front of which a method cuts first."""
        return min(session.stages, default=len(self.family.text_model.layers))

    def _answered(
        self,
        prompt: Opened,
        wanted: Sequence[int],
        config: GenerationConfig,
        ended: Ended | None,
    ) -> dict[int, Reply]:
        layers = Layers(self.family, prompt)
        prompt.prefill.recorded.clear()
        sessions = [self.sessions[one] for one in wanted]
        reading = Reading(layers, prompt, sessions)
        alive = reading.read()
        tokens = decoded(layers, alive, config, ended) if alive else []
        said = dict(zip(map(id, alive), tokens, strict=True))
        digests = sessions[0].digests(prompt.prefill)
        replies = {}
        for one, row in zip(wanted, reading.rows, strict=True):
            record = None
            if row.error is None:
                row.session.record(row.prefill, digests)
                (record,) = row.session.take_records()
            replies[one] = Reply(
                row.session, said.get(id(row), []), record, tuple(wanted), row.error
            )
        return replies
