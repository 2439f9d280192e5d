"""Questions about the pictures of a batch, as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from training._decoder import BLOCK, Packed
from training._episodes import SIGHTS, Episode
from training._prompt import make_prompt
from training._recipe import AIDED, Kind, Mix
from training._words import make_tokenizer
from unibench.tasks.synthvqa._questions import Question

IGNORE = -100


class Packer:
    """Asks about episodes and packs what was asked.

    Args:
        family: whose conversation form is used.
        plain: share of each ability and training aid among questions about plain pictures.
        number: questions asked about an episode; those that no longer fit are left out.
        room: tokens for all questions of an episode.
        brief: share of questions in their shortest form.
        others: like ``plain``, of what else conversations show.
    """

    def __init__(
        self,
        family: str,
        plain: Mix,
        number: int,
        room: int,
        brief: float = 0.0,
        others: Mapping[Kind, Mix] = AIDED,
    ) -> None:
        self.family, self.mixes = family, {**others, "plain": plain}
        self.number, self.room, self.brief = number, room, brief
        self.tokenizer = make_tokenizer(family)
        self._encode = lru_cache(100_000)(
            lambda kind, text: tuple(make_prompt(family, SIGHTS[kind]).question(text))
        )
        self._answer = lru_cache(100_000)(
            lambda text: tuple(self.tokenizer.encode(text, add_special_tokens=False))
        )

    def pack(self, episodes: Sequence[Episode], seed: int) -> Packed:
        """New questions about the episodes; the same for the same seed."""
        pairs = []
        for one in episodes:
            rng = np.random.default_rng([94, seed, one.seed])
            names, shares = list(mix := self.mixes[one.kind]), np.array(list(mix.values()))
            asked = []
            for name in rng.choice(names, self.number, p=shares / shares.sum()):
                question = one.ask(str(name), rng, True, self.brief)
                if question is not None:
                    asked.append(question)
            pairs.append(self.fitting(one, asked))
        return pack(pairs, self.room, self.tokenizer)

    def fitting(self, one: Episode, asked: Sequence[Question]) -> list[tuple[list[int], list[int]]]:
        """The different questions that there is room for, as tokens of question and answer."""
        pairs, used, seen = [], 0, set()
        for question in asked:
            if question.text in seen:
                continue
            seen.add(question.text)
            tokens = list(self._encode(one.kind, question.text))
            answer = [*self._answer(question.answer), self.tokenizer.eos_token_id]
            stop = _start(used, length := len(tokens) + len(answer)) + length
            if length <= BLOCK and stop <= self.room:
                pairs.append((tokens, answer))
                used = stop
        return pairs


def _start(used: int, length: int) -> int:
    """Where so many tokens fit into one block."""
    return used if used % BLOCK + length <= BLOCK else (used // BLOCK + 1) * BLOCK


def pack(
    batch: Sequence[Sequence[tuple[list[int], list[int]]]],
    room: int,
    tokenizer: PreTrainedTokenizerFast,
) -> Packed:
    """Pairs of question and answer tokens, for each prefix, to tensors."""
    ids = np.full((len(batch), room), tokenizer.pad_token_id)
    branch, positions = np.zeros_like(ids), np.zeros_like(ids)
    rows: list[list[int]] = [[] for _ in batch]
    targets: list[list[int]] = [[] for _ in batch]
    for b, pairs in enumerate(batch):
        start = 0
        for k, (asked, answer) in enumerate(pairs, 1):
            start = _start(start, len(asked) + len(answer))
            stop = start + len(asked) + len(answer)
            ids[b, start:stop] = asked + answer
            branch[b, start:stop] = k
            positions[b, start:stop] = np.arange(stop - start)
            rows[b] += range(start + len(asked) - 1, stop - 1)
            targets[b] += answer
            start = stop
    most = max(1, *(len(row) for row in rows))
    padded = np.array([row + [0] * (most - len(row)) for row in rows])
    wanted = np.array([target + [IGNORE] * (most - len(target)) for target in targets])
    return Packed(*(torch.from_numpy(array) for array in (ids, branch, positions, padded, wanted)))
