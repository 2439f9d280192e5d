"""Accuracy of the model in training, many questions at once."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from training._answering import Answering
from training._joint import visual_tokens
from training._loop import Place
from training._packing import IGNORE, pack
from training._pictures import Pictures
from training._recipe import Recipe
from training._towers import TOWERS
from training._vision import shapes
from unibench.tasks.synthvqa._questions import ABILITIES, ask

DEV = 45_000_000  # no training stage and no split of the benchmark reaches it


@torch.no_grad()
def exact(
    model: Any, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, place: Place, batches: int = 8
) -> dict[str, float]:
    """Share of answers whose every token is the most likely one, which is what greedy decoding
    prints.

    By ability, and by ability and topic; each picture is asked once for each ability.
    """
    whole, tower, hits = (
        Answering(model, recipe.family, tokenizer),
        TOWERS[recipe.family](model.model),
        defaultdict(list),
    )
    pictures = Pictures(shapes(recipe.sizes[:1], tower), 16, DEV)
    for number, batch in enumerate(pictures.batches(0, batches, 0)):
        pairs: list[list[tuple[list[int], list[int]]]] = []
        names: list[list[tuple[str, str]]] = []
        for scene in batch.scenes:
            rng = np.random.default_rng([96, number, scene.seed])
            asked = [(ability, ask(ability, scene, rng)) for ability in ABILITIES]
            known = [(ability, question) for ability, question in asked if question is not None]
            pairs.append(
                [
                    (whole.prompts[1].question(q.text), _answer(tokenizer, q.answer))
                    for _, q in known
                ]
            )
            names.append([(ability, f"{ability}/{q.topic}") for ability, q in known])
        packed = pack(pairs, recipe.text_tokens, tokenizer).to(place.device)
        right = (
            whole.logits(visual_tokens(tower, batch, place), batch.grid, packed).argmax(-1)
            == packed.targets
        ) | (packed.targets == IGNORE)
        branch = packed.branch.gather(1, packed.rows)
        for b, keys in enumerate(names):
            for k, both in enumerate(keys, 1):
                hit = bool(right[b][(branch[b] == k) & (packed.targets[b] != IGNORE)].all())
                for key in both:
                    hits[key].append(hit)
    return {key: float(np.mean(values)) for key, values in sorted(hits.items())}


def _answer(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
