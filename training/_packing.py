"""Questions about the pictures of a batch, as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from training._decoder import BLOCK, Packed
from training._episodes import SIGHTS, Episode
from training._listings import Listing
from training._prompt import make_prompt
from training._recipe import AIDED, Kind, Mix
from training._words import make_tokenizer
from unibench.tasks.synthvqa._questions import Question

IGNORE = -100


@dataclass(frozen=True)
class Pair:
    """A question and its answer, as tokens.

    Attributes:
        asked: up to where the answer begins.
        answer: its tokens.
        targets: the same, ``IGNORE`` where a token is told and not to be answered.
    """

    asked: list[int]
    answer: list[int]
    targets: list[int]


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

    def _answered(self, question: Question) -> tuple[list[int], list[int]]:
        """Tokens of the answer, and which of them are to be answered."""
        end = self.tokenizer.eos_token_id
        if not isinstance(question, Listing):
            answer = [*self._answer(question.answer), end]
            return answer, answer
        text, spans = question.spans()
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        targets = [
            token if any(start < last and stop > first for first, last in spans) else IGNORE
            for token, (start, stop) in zip(
                found["input_ids"], found["offset_mapping"], strict=True
            )
        ]
        return [*found["input_ids"], end], [*targets, IGNORE]

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

    def fitting(self, one: Episode, asked: Sequence[Question]) -> list[Pair]:
        """The different questions that there is room for, as tokens of question and answer."""
        pairs, used, seen = [], 0, set()
        for question in asked:
            if question.text in seen:
                continue
            seen.add(question.text)
            tokens = list(self._encode(one.kind, question.text))
            answer, targets = self._answered(question)
            stop = _start(used, length := len(tokens) + len(answer)) + length
            if length <= BLOCK and stop <= self.room:
                pairs.append(Pair(tokens, answer, targets))
                used = stop
        return pairs


def _start(used: int, length: int) -> int:
    """Where so many tokens fit into one block."""
    return used if used % BLOCK + length <= BLOCK else (used // BLOCK + 1) * BLOCK


def pack(
    batch: Sequence[Sequence[Pair]],
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
        for k, pair in enumerate(pairs, 1):
            tokens = pair.asked + pair.answer
            start = _start(start, len(tokens))
            stop = start + len(tokens)
            ids[b, start:stop] = tokens
            branch[b, start:stop] = k
            positions[b, start:stop] = np.arange(stop - start)
            rows[b] += range(start + len(pair.asked) - 1, stop - 1)
            targets[b] += pair.targets
            start = stop
    most = max(1, *(len(row) for row in rows))
    padded = np.array([row + [0] * (most - len(row)) for row in rows])
    wanted = np.array([target + [IGNORE] * (most - len(target)) for target in targets])
    return Packed(*(torch.from_numpy(array) for array in (ids, branch, positions, padded, wanted)))
