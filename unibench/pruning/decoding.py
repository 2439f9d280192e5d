"""Choosing anew, at each decoding step, which visual tokens the later layers read.

Nothing leaves a cache: every layer stores all it is given, and the choice of a step is forgotten
with it. A layer that has seen the new token says what it looked at; the layers after it read the
text, the generated tokens, and the visual tokens that the method chose.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from unibench.errors import UsageError
from unibench.pruning.attention import AttentionTap, QueryKey, attention_rows
from unibench.pruning.calls import full_precision
from unibench.pruning.checking import indices
from unibench.pruning.context import StepContext
from unibench.pruning.family import Family
from unibench.pruning.layout import separators_of
from unibench.pruning.prompt import Prompt
from unibench.pruning.stage import Method


@dataclass(frozen=True)
class Reads:
    """Visual tokens that were read at one decoding step of one sample.

    Attributes:
        sample: its name.
        layers: of each decoder layer, how many.
    """

    sample: str
    layers: tuple[int, ...]


class _Step(threading.local):
    """One decoding step of the thread that runs it.

    Attributes:
        prompt: that is continued.
        recorded: queries and keys of the layer before the first that rereads; None where nothing is
            chosen at this step.
        chosen: of each sample, the original visual tokens that may be read; None is all.
        seen: what layers may read, by the identity of the segment that they hold.
    """

    prompt: Prompt | None = None
    recorded: list[QueryKey] | None = None

    def __init__(self) -> None:
        self.chosen: list[Tensor | None] = []
        self.seen: dict[int, Tensor] = {}


class Rereading:
    """Asks a method at every decoding step what its later layers may read.

    Args:
        method: whose :meth:`~unibench.pruning.Method.rereads` says from which layer on.
        family: the adapter of the model.

    Attributes:
        first: the first layer that reads less; None where none does.
        reads: what was read at the steps so far.
    """

    def __init__(self, method: Method, family: Family) -> None:
        self.method, self.family = method, family
        self.first = method.rereads(len(family.text_model.layers))
        self.reads: list[Reads] = []
        modules = [] if self.first is None else [family.llm_attention(self.first - 1)]
        self._step = _Step()
        self.tap = AttentionTap(modules, lambda module: self._step.recorded)

    def installed(self) -> AbstractContextManager[None]:
        """Listen for the length of the block."""
        return self.tap.installed()

    def begin(self, prompt: Prompt | None, tokens: int) -> None:
        """A decoding step is about to run.

        Args:
            prompt: that is continued; None ends decoding.
            tokens: new ones; more than one, as a draft to be verified, reads everything.

        Raises:
            UsageError: beams, which change places between steps.
        """
        step = self._step
        step.prompt, step.recorded, step.chosen, step.seen = prompt, None, [], {}
        if self.first is None or prompt is None or not prompt.has_visual or tokens > 1:
            return
        # transformers reorders a cache's rows for beams and tells no one
        if prompt.copies > 1:
            raise UsageError(
                f"{type(self.method).__name__} remembers the step before of every sample, and beams"
                " change places: num_beams=1, num_return_sequences=1"
            )
        if prompt.memory is None:
            prompt.memory = [{} for _ in prompt.items]
        step.recorded = []

    def readable(self, index: int, keys: int) -> Tensor | None:
        """``[B, keys]`` True on cache entries that a layer may read at this step; None: all.

        Args:
            index: of the layer.
            keys: entries in its cache, the new token's among them.
        """
        step, prompt = self._step, self._step.prompt
        if self.first is None or prompt is None or step.recorded is None or index < self.first:
            return None
        if index == self.first:
            self._choose(prompt, step.recorded)
        part = prompt.segments.get(index)
        if any(chosen is not None for chosen in step.chosen) and id(part) not in step.seen:
            step.seen[id(part)] = self._mask(prompt, index, keys)
        if index == len(self.family.text_model.layers) - 1:
            self._count(prompt)
        return step.seen.get(id(part))

    def _choose(self, prompt: Prompt, recorded: list[QueryKey]) -> None:
        """Ask the method about every sample, from what the layer before has looked at."""
        assert self.first is not None and prompt.memory is not None
        (qk,) = recorded
        name = type(self.method).__name__
        for row, held in enumerate(_held(prompt, self.first - 1)):
            columns, rank = (part.to(qk.key.device) for part in held)
            if not len(columns):
                self._step.chosen.append(None)
                continue
            pad = _padding(prompt, self.first - 1, row)
            # one new token sees everything before it, so no causal mask is needed
            given = attention_rows(qk.query[row], qk.key[row][:, pad:], qk.scaling)[:, 0]
            ctx = StepContext(
                layer=self.first - 1,
                attention=given[:, columns - pad],
                vision_rows=rank,
                separators=separators_of(prompt.items[row], rank),
                memory=prompt.memory[row],
            )
            with full_precision(given.device):
                kept = self.method.reselect(ctx)
            if kept is not None:
                # by original number: later layers may hold fewer tokens, at other columns
                kept = rank[indices(kept, len(rank), f"{name}.reselect")]
            self._step.chosen.append(kept)

    def _mask(self, prompt: Prompt, index: int, keys: int) -> Tensor:
        """What a layer may read, by the choice for every sample."""
        part = prompt.segments.get(index)
        valid = prompt.valid if part is None else part.valid
        # generated tokens are always read
        seen = torch.nn.functional.pad(valid, (0, keys - valid.shape[1]), value=True).clone()
        for row, (columns, rank) in enumerate(_held(prompt, index)):
            chosen = self._step.chosen[row]
            if chosen is not None:
                seen[row, columns] = torch.isin(rank, chosen.to(rank.device))
        return seen

    def _count(self, prompt: Prompt) -> None:
        """Note what the layers read at this step."""
        assert self.first is not None
        for row, name in enumerate(prompt.names):
            chosen, counts = self._step.chosen[row], []
            for index in range(len(self.family.text_model.layers)):
                columns, rank = _held(prompt, index)[row]
                if index < self.first or chosen is None:
                    counts.append(len(columns))
                else:
                    counts.append(int(torch.isin(rank, chosen.to(rank.device)).sum()))
            self.reads.append(Reads(name, tuple(counts)))


def _held(prompt: Prompt, index: int) -> list[tuple[Tensor, Tensor]]:
    """Columns of the visual tokens in a layer's cache and their numbers, of each sample; they stay
    where they are while a prompt is continued.
    """
    part = prompt.segments.get(index)
    known, rows = prompt.held.get(id(part), (None, []))
    if not rows or known is not part:  # of a copied cache the segments are others
        for row, visual in enumerate(prompt.visual):
            rank = visual.cumsum(0) - 1
            if part is not None:
                origin = part.origin[row].to(visual.device)
                visual = visual[origin] & part.valid[row].to(visual.device)
                rank = rank[origin]
            columns = visual.nonzero()[:, 0]
            rows.append((columns, rank[columns]))
        prompt.held[id(part)] = part, rows
    return rows


def _padding(prompt: Prompt, index: int, row: int) -> int:
    """Length of the padding of a sample in a layer's cache."""
    part = prompt.segments.get(index)
    if part is None:
        return prompt.pads[row]
    return int((~part.valid[row]).sum()) if part.padded else 0
