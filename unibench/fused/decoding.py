"""Decoding all rows of a prompt together, each over what is left of it in each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, RepetitionPenaltyLogitsProcessor

from unibench.fused.reading import Layers
from unibench.fused.rows import Held, Row
from unibench.pruning.cutting import Rotary, Segment, causal_mask
from unibench.pruning.positions import positions_of

Ended = Callable[[Tensor, Tensor], Tensor]


@dataclass(eq=False)
class _Pattern:
    """What the rows hold in a run of layers.

    Attributes:
        length: of the longest row; what is generated follows it in every row.
        pads: padding at the left of each row.
        valid: ``[N, length + steps]`` False on it.
        sizes: ``[N, length + steps]`` how many tokens each key stands for; None is one each.
        end: ``[axes, N, 1]`` where the first generated token stands.
    """

    length: int
    pads: list[int]
    valid: Tensor
    sizes: Tensor | None
    end: Tensor

    def keep(self, rows: Tensor) -> None:
        """Leave the other rows out."""
        self.pads = [self.pads[row] for row in rows.tolist()]
        self.valid, self.end = self.valid[rows], self.end[:, rows]
        if self.sizes is not None:
            self.sizes = self.sizes[rows]


class _Grown:
    """Stands where a layer expects a cache: what the rows hold there, with room for the answer."""

    def __init__(self, held: Sequence[Held], pattern: _Pattern, steps: int) -> None:
        heads, _, width = held[0].keys.shape
        shape = (len(held), heads, pattern.length + steps, width)
        # zeros and not empty: what is masked is multiplied by 0, and NaN would stay NaN
        self.keys, self.values = held[0].keys.new_zeros(shape), held[0].values.new_zeros(shape)
        for row, (one, pad) in enumerate(zip(held, pattern.pads, strict=True)):
            self.keys[row, :, pad : pattern.length] = one.keys
            self.values[row, :, pad : pattern.length] = one.values
        self.pattern, self.used = pattern, pattern.length

    def update(self, keys: Tensor, values: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
        self.keys[:, :, self.used] = keys[:, :, 0]
        self.values[:, :, self.used] = values[:, :, 0]
        self.used += 1
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]

    def keep(self, rows: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]


class Decoding:
    """The rows of a prompt that go on, one token at a time.

    Args:
        layers: of the decoder.
        rows: that have been read; what they hold is taken over.
        steps: most tokens that follow.
    """

    def __init__(self, layers: Layers, rows: Sequence[Row], steps: int) -> None:
        self._layers, self._rows, self._steps, self._done = layers, list(rows), steps, 0
        self._patterns: dict[tuple[int, ...], _Pattern] = {}
        self._caches: list[_Grown] = []
        for index in range(len(layers)):
            pattern = self._pattern(index)
            held = [row.track.held[index] for row in rows]
            self._caches.append(_Grown(held, pattern, steps))

    def _pattern(self, index: int) -> _Pattern:
        """What the rows hold in a layer; most layers share it with the one before."""
        segments = [row.prefill.prompt.segments.get(index) for row in self._rows]
        key = tuple(map(id, segments))
        if key not in self._patterns:
            self._patterns[key] = self._made(segments)
        return self._patterns[key]

    def _made(self, segments: Sequence[Segment | None]) -> _Pattern:
        prompt = self._rows[0].prefill.prompt
        device = self._rows[0].track.hidden.device
        lengths = [prompt.length if one is None else one.length for one in segments]
        length, number = max(lengths), len(segments)
        pads = [length - one for one in lengths]
        valid = torch.ones(number, length + self._steps, dtype=torch.bool, device=device)
        weighed = any(one is not None and one.sizes is not None for one in segments)
        sizes = torch.ones(valid.shape, device=device) if weighed else None
        whole = positions_of(prompt)[..., -1:] + 1
        ends = []
        for row, (segment, pad) in enumerate(zip(segments, pads, strict=True)):
            valid[row, :pad] = False
            if sizes is not None and segment is not None and segment.sizes is not None:
                sizes[row, pad:length] = segment.sizes[0]
            moved = segment is not None and segment.end is not None
            ends.append(segment.end if moved and segment is not None else whole)
        end = torch.cat([one.to(whole) for one in ends if one is not None], 1).to(device)
        return _Pattern(length, pads, valid, sizes, end)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows only."""
        if len(rows) == len(self._rows):
            return
        index = torch.tensor(rows, device=self._caches[0].keys.device)
        self._rows = [self._rows[row] for row in rows]
        for cache in self._caches:
            cache.keep(index)
        for pattern in self._patterns.values():
            pattern.keep(index)

    def step(self, tokens: Tensor) -> Tensor:
        """The scores ``[N, V]`` of what follows the tokens ``[N]``."""
        table = self._layers.family.model.get_input_embeddings()
        hidden: Tensor = table(tokens[:, None])
        turned: dict[int, tuple[Rotary, Tensor | None]] = {}
        for index, cache in enumerate(self._caches):
            pattern = cache.pattern
            if id(pattern) not in turned:
                turned[id(pattern)] = (self._rotary(pattern, hidden), self._mask(pattern, hidden))
            rotary, mask = turned[id(pattern)]
            hidden = self._layers.run(index, hidden, mask, rotary, cache)
        self._done += 1
        return self._layers.scores(hidden)

    def _rotary(self, pattern: _Pattern, hidden: Tensor) -> Rotary:
        at = pattern.end + self._done
        return self._layers.family.rotary(hidden, at if len(at) == 3 else at[0])

    def _mask(self, pattern: _Pattern, hidden: Tensor) -> Tensor | None:
        if not any(pattern.pads) and pattern.sizes is None:
            return None  # one token may look at all there is
        keys = pattern.length + self._done + 1
        sizes = None if pattern.sizes is None else pattern.sizes[:, :keys]
        valid = pattern.valid[:, :keys]
        return causal_mask(self._layers.kernel, valid, hidden, True, sizes)


def decoded(
    layers: Layers,
    rows: Sequence[Row],
    config: GenerationConfig,
    ended: Ended | None = None,
) -> list[list[int]]:
    """The tokens that follow each row under greedy decoding, their end token included.

    Args:
        layers: of the decoder.
        rows: that have been read.
        config: how many tokens at most, which ones end an answer, and the repetition penalty.
        ended: transformers' stopping criteria: from ids ``[N, T]``, the prompt's included, and
            scores ``[N, V]`` to ``[N]`` True on answers that have ended.
    """
    assert config.max_new_tokens is not None
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    ids = rows[0].prefill.prompt.ids
    assert ids is not None
    # transformers counts what the prompt says as said already
    said = ids.expand(len(rows), -1)
    penalty = None
    if config.repetition_penalty not in (None, 1.0):
        penalty = RepetitionPenaltyLogitsProcessor(penalty=config.repetition_penalty)
    scores = layers.scores(torch.cat([row.track.hidden[:, -1:] for row in rows]))
    decoding: Decoding | None = None
    answers: list[list[int]] = [[] for _ in rows]
    going = list(range(len(rows)))
    while True:
        tokens = (scores if penalty is None else penalty(said, scores)).argmax(-1)
        for row, token in zip(going, tokens.tolist(), strict=True):
            answers[row].append(token)
        said = torch.cat([said, tokens[:, None].to(said)], 1)
        over = [False] * len(going) if ended is None else ended(said, scores).tolist()
        left = [
            place
            for place, row in enumerate(going)
            if answers[row][-1] not in stops and not over[place]
        ]
        if not left or len(answers[going[0]]) == config.max_new_tokens:
            return answers
        if decoding is None:
            decoding = Decoding(layers, [rows[place] for place in left], config.max_new_tokens - 1)
        else:
            decoding.keep(left)
        going = [going[place] for place in left]
        said = said[left]
        scores = decoding.step(tokens[left])
