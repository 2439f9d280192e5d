"""Questions about the pictures of a batch, as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from training._aids import AIDS, aid
from training._decoder import BLOCK, Packed
from training._words import Prompt
from unibench.tasks.synthvqa._prompts import about
from unibench.tasks.synthvqa._questions import ask
from unibench.tasks.synthvqa._scene import Scene

IGNORE = -100


class Packer:
    """Asks about scenes and packs what was asked.

    Args:
        prompt: the conversation around a question.
        mix: share of each ability and training aid.
        number: questions asked about a scene; those that no longer fit are left out.
        room: tokens for all questions of a scene.
        brief: share of questions in their shortest form.
    """

    def __init__(
        self, prompt: Prompt, mix: dict[str, float], number: int, room: int, brief: float = 0.0
    ) -> None:
        self.prompt, self.number, self.room, self.brief = prompt, number, room, brief
        self.names, shares = list(mix), np.array(list(mix.values()))
        self.shares = shares / shares.sum()
        self.tokenizer: PreTrainedTokenizerFast = prompt.tokenizer
        self._encode = lru_cache(100_000)(lambda text: tuple(self.prompt.question(text)))
        self._answer = lru_cache(100_000)(
            lambda text: tuple(self.tokenizer.encode(text, add_special_tokens=False))
        )

    def pack(self, groups: Sequence[Sequence[Scene]], seed: int) -> Packed:
        """New questions about the scenes that share a conversation; the same for the same seed."""
        pairs = [
            self._pairs(group, np.random.default_rng([94, seed, group[0].seed])) for group in groups
        ]
        return pack(pairs, self.room, self.tokenizer)

    def _pairs(
        self, group: Sequence[Scene], rng: np.random.Generator
    ) -> list[tuple[list[int], list[int]]]:
        pairs, used, seen = [], 0, set()
        for name in rng.choice(self.names, self.number, p=self.shares):
            which = int(rng.integers(len(group))) if len(group) > 1 else 0
            scene, brief = group[which], self.brief
            question = (
                aid(name, scene, rng, brief)
                if name in AIDS
                else ask(name, scene, rng, varied=True, brief=brief)
            )
            if question is None or (which, question.text) in seen:
                continue
            seen.add((which, question.text))
            asked = list(
                self._encode(question.text if len(group) == 1 else about(which, question.text))
            )
            answer = [*self._answer(question.answer), self.tokenizer.eos_token_id]
            stop = _start(used, length := len(asked) + len(answer)) + length
            if length <= BLOCK and stop <= self.room:
                pairs.append((asked, answer))
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
