"""Everything that is known of a batch of prompts while a model reads it, and nothing afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from unibench.cost import Clock, Mark
from unibench.ops import Work
from unibench.pruning.attention import QueryKey
from unibench.pruning.calls import without_gradient
from unibench.pruning.cutting import Rotary, Segment, left_padded, segment, take_rotary, take_tokens
from unibench.pruning.encoder import Tile
from unibench.pruning.family import VisionCall
from unibench.pruning.positions import Places
from unibench.pruning.prompt import Choice, Prompt
from unibench.pruning.record import Spans


@dataclass
class Prefill:
    """One prefill: from the first hook that meets a batch of prompts to its first logits.

    It begins with the call of the vision tower, which ``generate()`` makes before the model's
    forward since transformers 5.17, or with the forward, whichever comes first. What decoding needs
    of it lies in :attr:`prompt`, which outlives it.

    Attributes:
        forward_start: when the model's forward began; None before it.
        ids: ``[B, L]`` token ids, None when the model was given embeddings.
        calls: the calls of the vision tower, by modality.
        open: the call that is running.
        tile: the tile that stages inside the vision tower are merging.
        mask: ``[B, L]`` what the model was given, 0 on padding; None is no padding.
        rotary: cos and sin of the whole prompt, by kind of decoder layer.
        current: the segment of the decoder layer being read; None is the whole prompt.
        sizes: ``[B, L]`` how many tokens each of the whole prompt stands for; None is one each.
        places: where its tokens stand, under a policy that moves them.
        counts: visual tokens that entered each decoder layer from the first cut on, by sample.
        recorded: queries and keys that attention modules of the decoder were given.
        entering: queries and keys of the layer about to run.
        alone: the attention module that is called for its queries and keys alone.
        memory: what the stages of a method leave for each other, by sample and first token.
        deepstack: what the text model would add behind its first layers.
        replay: choices made when a shorter form of this prompt was read without a cache.
        spans: when its parts ran.
        work: what the stages of a method computed for each sample.
        together: what they computed for the whole batch.
        embeds: ``[B, L, D]`` what the language model was given, where it is diagnosed.
        attended: shares of attention on kept tokens, by sample, where it is diagnosed.
        scores: by sample, number and layer of the first stage that chose by scores, and these over
            all visual tokens, where they are kept.
    """

    forward_start: Mark | None = None
    ids: Tensor | None = None
    calls: dict[str, VisionCall] = field(default_factory=dict)
    open: VisionCall | None = None
    tile: Tile | None = None
    mask: Any = None
    rotary: dict[str, Rotary] = field(default_factory=dict)
    current: Segment | None = None
    sizes: Tensor | None = None
    places: Places | None = None
    counts: list[list[int]] = field(default_factory=list)
    recorded: dict[nn.Module, list[QueryKey]] = field(default_factory=dict)
    entering: dict[int, QueryKey] = field(default_factory=dict)
    alone: nn.Module | None = None
    memory: dict[tuple[int, int], dict[str, Tensor]] = field(default_factory=dict)
    deepstack: Added | None = None
    replay: list[list[Choice | None]] | None = None
    spans: Spans = field(default_factory=Spans)
    work: dict[int, list[Work]] = field(default_factory=dict)
    together: list[Work] = field(default_factory=list)
    embeds: Tensor | None = None
    attended: dict[int, list[float]] = field(default_factory=dict)
    scores: dict[int, tuple[int, int, Tensor]] = field(default_factory=dict)
    _prompt: Prompt | None = None

    @property
    def started(self) -> bool:
        """Whether the language model is reading the prompt, or has read it."""
        return self._prompt is not None

    @property
    def prompt(self) -> Prompt:
        """The prompt.

        Raises:
            RuntimeError: the language model has not been reached.
        """
        if self._prompt is None:
            raise RuntimeError("the language model has not begun to read this prompt")
        return self._prompt

    @prompt.setter
    def prompt(self, prompt: Prompt) -> None:
        self._prompt = prompt

    def origin_of(self, row: int) -> tuple[Tensor, int]:
        """Index in the unpruned sequence of each token of a sample now, and the padding before
        them.
        """
        if self.current is None:
            pad = self.prompt.pads[row]
            return torch.arange(pad, self.prompt.length, device=self.prompt.valid.device), pad
        pad = int((~self.current.valid[row]).sum())
        return self.current.origin[row, pad:], pad

    def origins(self, hidden: Tensor) -> Tensor:
        """``[B, L']`` index in the unpruned sequence of each row of ``hidden [B, L', ...]``; 0 on
        padding after a cut.
        """
        if self.current is not None:
            return self.current.origin.to(hidden.device)
        return torch.arange(hidden.shape[1], device=hidden.device).expand(len(hidden), -1)

    def rotary_of(self, kind: str) -> Rotary:
        """cos and sin of the tokens that are there now, for a kind of decoder layer that has
        run.
        """
        if self.current is None:
            return self.rotary[kind]
        if kind not in self.current.rotary:
            at, origin = self.current.at, self.current.origin
            # moved tokens are turned anew; the others keep what the model made for them
            if at is not None and self.places is not None:
                self.current.rotary[kind] = self.places.rotary(at, kind)
            else:
                self.current.rotary[kind] = take_rotary(self.rotary[kind], origin)
        return self.current.rotary[kind]

    def visual_counts(self) -> list[int]:
        """Visual tokens of each sample now."""
        if self.current is None:
            return self.prompt.visual_counts
        visual = self.prompt.visual
        origin, valid = (
            part.to(visual.device) for part in (self.current.origin, self.current.valid)
        )
        return [int(count) for count in (visual.gather(1, origin) & valid).sum(1)]

    def left(self, row: int) -> Tensor:
        """``[N]`` True on the visual tokens of a sample that are there now."""
        visual = self.prompt.visual[row].nonzero()[:, 0]
        return torch.isin(visual, self.origin_of(row)[0].to(visual.device))

    def work_of(self, row: int) -> tuple[float, float, tuple[str, ...]]:
        """Operations of products and others that a sample cost, of what was done for a batch its
        mean; and the operators that were not counted.
        """
        products = others = 0.0
        unknown: set[str] = set()
        samples = len(self.prompt.items)
        for pieces, share in ((self.work.get(row, []), 1), (self.together, samples)):
            products += sum(work.products for work in pieces) / share
            others += sum(work.others for work in pieces) / share
            unknown.update(*(work.uncounted for work in pieces))
        return products, others, tuple(sorted(unknown))

    def cut(self, choices: list[Choice | None], hidden: Tensor, who: str) -> Tensor:
        """The hidden states ``[B, L, D]`` without what the choices drop; the rest becomes the
        current segment.

        Args:
            choices: of each sample.
            hidden: what enters the layer.
            who: the method, for messages.
        """
        merged = any(choice is not None and choice.values is not None for choice in choices)
        new = hidden.clone() if merged else hidden
        rows = [self._staying(choice, new, row) for row, choice in enumerate(choices)]
        if merged:
            new = without_gradient(new.detach(), hidden, who)
        weighted = self._weigh(choices)
        # without a cut the layer keeps the model's own mask, and the kernel that it allows
        whole = all(len(kept) == len(self.origin_of(row)[0]) for row, kept in enumerate(rows))
        if whole and not weighted:
            return new
        index, valid = left_padded(rows)
        origin = self.origins(hidden).gather(1, index)
        self.current = segment(origin, valid, self.rotary, self.sizes)
        if self.places is not None:
            self.current = self.places.moved(self.current, choices)
        return take_tokens(new, index)

    def _weigh(self, choices: list[Choice | None]) -> bool:
        """Note how many tokens those that go on stand for; whether any choice says so."""
        found = [
            (row, choice.origin, choice.sizes)
            for row, choice in enumerate(choices)
            if choice is not None and choice.sizes is not None
        ]
        for row, origin, sizes in found:
            # over the unpruned prompt, since later stages cut again
            if self.sizes is None:
                self.sizes = torch.ones(self.prompt.valid.shape, device=sizes.device)
            self.sizes[row, origin.to(self.sizes.device)] = sizes.to(self.sizes)
        return bool(found)

    def _staying(self, choice: Choice | None, hidden: Tensor, row: int) -> Tensor:
        """Places of one sample's tokens that go on; their new values are written into
        ``hidden``.
        """
        origin, pad = self.origin_of(row)
        origin = origin.to(hidden.device)
        if choice is None:
            return torch.arange(len(origin), device=hidden.device) + pad
        kept = torch.isin(origin, choice.origin)
        if choice.values is not None:
            hidden[row, kept.nonzero()[:, 0] + pad] = choice.values
        visual = self.prompt.visual[row].to(hidden.device)[origin]
        # text is never dropped, whatever a method answers
        return (~visual | kept).nonzero()[:, 0] + pad


@dataclass(frozen=True)
class Added:
    """Features that a text model adds to its visual tokens between decoder layers (DeepStack).

    Attributes:
        visual: ``[B, L]`` True on visual tokens of the unpruned prompt.
        features: ``[tokens, D]`` for each of the first layers.
    """

    visual: Tensor
    features: list[Tensor]


class _Now(threading.local):
    """What a thread is reading."""

    prefill: Prefill | None = None
    prompt: Prompt | None = None


class Reading:
    """The prefill under way, None between prompts: all that the hooks of a session share.

    torch and transformers call hooks with arguments of their own, so the hooks have to look up what
    they work on; this is where, and dropping it forgets everything at once. Each thread that calls
    the model has a prefill of its own.

    Args:
        clock: marks spans.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._now = _Now()

    @property
    def prefill(self) -> Prefill | None:
        """The one under way."""
        return self._now.prefill

    @property
    def prompt(self) -> Prompt | None:
        """The prompt that the forward under way reads or continues."""
        return self._now.prompt

    @prompt.setter
    def prompt(self, prompt: Prompt | None) -> None:
        self._now.prompt = prompt

    def begun(self, modality: str = "") -> Prefill:
        """The prefill that waits for the language model, a new one if there is none.

        Args:
            modality: of a call of the vision tower that is about to run.
        """
        stale = self.prefill is not None and (
            # a prompt that failed halfway left what it had: the language model was reached, or the
            # tower reads pictures again that no forward has fetched
            self.prefill.started
            or (modality in self.prefill.calls and self.prefill.forward_start is None)
        )
        if self._now.prefill is None or stale:
            self._now.prefill = Prefill()
        return self._now.prefill

    def end(self) -> None:
        """Forget it."""
        self._now.prefill = None

    @contextmanager
    def timed(self, spans: list[tuple[Mark, Mark]]) -> Iterator[None]:
        """Add the span of a block, unless it fails."""
        start = self.clock.mark()
        yield
        spans.append((start, self.clock.mark()))
