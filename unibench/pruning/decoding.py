"""Choosing anew, at each decoding step, which visual tokens the later layers read.

Nothing leaves a cache: every layer stores all it is given, and the choice of a step is forgotten
with it. A layer that has seen the new token says what it looked at; the layers after it read the
text, the generated tokens, and the visual tokens that the method chose.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unibench.errors import UsageError
from unibench.pruning.attention import AttentionTap, QueryKey, attention_rows
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


@dataclass
class _Prompt:
    """What decoding remembers of a prompt.

    Attributes:
        prompt: that is continued.
        held: for each segment (by identity), of each sample, columns of visual tokens in the cache
            and which original ones they are.
        memory: of each sample.
    """

    prompt: Prompt
    held: dict[int, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    memory: list[dict[str, Tensor]] = field(default_factory=list)


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
        self.tap = AttentionTap(modules, lambda module: self._recorded)
        self._recorded: list[QueryKey] | None = None
        self._of: _Prompt | None = None
        self._chosen: list[Tensor | None] = []
        self._seen: dict[int, Tensor] = {}

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
        self._recorded, self._chosen, self._seen = None, [], {}
        if self.first is None or prompt is None or not prompt.has_visual or tokens > 1:
            return
        if prompt.copies > 1:
            raise UsageError(
                f"{type(self.method).__name__} remembers the step before of every sample, and beams"
                " change places: num_beams=1, num_return_sequences=1"
            )
        if self._of is None or self._of.prompt is not prompt:
            self._of = _Prompt(prompt, memory=[{} for _ in prompt.items])
        self._recorded = []

    def readable(self, index: int, keys: int) -> Tensor | None:
        """``[B, keys]`` True on cache entries that a layer may read at this step; None: all.

        Args:
            index: of the layer.
            keys: entries in its cache, the new token's among them.
        """
        if self.first is None or self._recorded is None or index < self.first:
            return None
        assert self._of is not None
        prompt = self._of.prompt
        if index == self.first:
            self._choose()
        part = prompt.segments.get(index)
        if any(chosen is not None for chosen in self._chosen) and id(part) not in self._seen:
            self._seen[id(part)] = self._mask(index, keys)
        if index == len(self.family.text_model.layers) - 1:
            self._count()
        return self._seen.get(id(part))

    def _choose(self) -> None:
        """Ask the method about every sample, from what the layer before has looked at."""
        assert self.first is not None and self._of is not None and self._recorded is not None
        (qk,) = self._recorded
        prompt = self._of.prompt
        for row, held in enumerate(self._held(self.first - 1)):
            columns, rank = (part.to(qk.key.device) for part in held)
            if not len(columns):
                self._chosen.append(None)
                continue
            pad = self._padding(self.first - 1, row)
            given = attention_rows(qk.query[row], qk.key[row][:, pad:], qk.scaling)[:, 0]
            ctx = StepContext(
                layer=self.first - 1,
                attention=given[:, columns - pad],
                vision_rows=rank,
                separators=separators_of(prompt.items[row], rank),
                memory=self._of.memory[row],
            )
            kept = self.method.reselect(ctx)
            self._chosen.append(None if kept is None else rank[kept])

    def _mask(self, index: int, keys: int) -> Tensor:
        """What a layer may read, by the choice for every sample."""
        assert self._of is not None
        prompt = self._of.prompt
        part = prompt.segments.get(index)
        valid = prompt.valid if part is None else part.valid
        seen = torch.nn.functional.pad(valid, (0, keys - valid.shape[1]), value=True).clone()
        for row, (columns, rank) in enumerate(self._held(index)):
            chosen = self._chosen[row]
            if chosen is not None:
                seen[row, columns] = torch.isin(rank, chosen.to(rank.device))
        return seen

    def _held(self, index: int) -> list[tuple[Tensor, Tensor]]:
        """Columns of the visual tokens in a layer's cache and their numbers, of each sample; they
        stay where they are while a prompt is continued.
        """
        assert self._of is not None
        prompt = self._of.prompt
        part = prompt.segments.get(index)
        if id(part) not in self._of.held:
            rows = []
            for row, visual in enumerate(prompt.visual):
                rank = visual.cumsum(0) - 1
                if part is not None:
                    origin = part.origin[row].to(visual.device)
                    visual = visual[origin] & part.valid[row].to(visual.device)
                    rank = rank[origin]
                columns = visual.nonzero()[:, 0]
                rows.append((columns, rank[columns]))
            self._of.held[id(part)] = rows
        return self._of.held[id(part)]

    def _padding(self, index: int, row: int) -> int:
        assert self._of is not None
        part = self._of.prompt.segments.get(index)
        if part is None:
            return self._of.prompt.pads[row]
        return int((~part.valid[row]).sum()) if part.padded else 0

    def _count(self) -> None:
        """Note what the layers read at this step."""
        assert self.first is not None and self._of is not None
        for row, name in enumerate(self._of.prompt.names):
            chosen, counts = self._chosen[row], []
            for index in range(len(self.family.text_model.layers)):
                columns, rank = self._held(index)[row]
                if index < self.first or chosen is None:
                    counts.append(len(columns))
                else:
                    counts.append(int(torch.isin(rank, chosen.to(rank.device)).sum()))
            self.reads.append(Reads(name, tuple(counts)))
