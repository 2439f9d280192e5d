"""Accuracy of the model in training, many questions at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from training._answering import Answering, Shown
from training._episodes import ABILITIES, Episode
from training._joint import visual_tokens
from training._language import make_scenes, worded
from training._loop import Place
from training._packing import IGNORE, Packer, pack
from training._pictures import Geometry, Pictures
from training._recipe import Kind, Language, Recipe
from training._towers import TOWERS
from training._wording import Wording
from unibench.tasks.synthscene import IOU, overlap, parse_box
from unibench.tasks.synthvqa._questions import Question

DEV = 45_000_000  # no training stage and no split of the benchmarks reaches it


@dataclass(frozen=True)
class Asked:
    """Conversations with one question of each ability, in the benchmark's own form."""

    episodes: tuple[Episode, ...]
    shown: Shown


@torch.no_grad()
def exact(
    model: Any, recipe: Recipe, place: Place, kinds: tuple[Kind, ...], batches: int = 8
) -> dict[str, float]:
    """Share of answers whose every token is the most likely one, which is what greedy decoding
    prints; boxes are right as synthscene scores them.

    By ability; each picture is asked once for each ability of its kind.
    """
    whole, tower = Answering(model, recipe.family), TOWERS[recipe.family](model.model)
    geometry = Geometry.of(recipe, tower)

    def asked(kind: Kind) -> Iterator[Asked]:
        pictures = Pictures(geometry, recipe, "joint", lambda _: kind, DEV)
        for batch in pictures.batches(0, batches, 0):
            yield Asked(batch.episodes(), visual_tokens(tower, batch, place))

    return _shares(whole, recipe.text_tokens, place, {kind: asked(kind) for kind in kinds})


@torch.no_grad()
def exact_worded(
    asking: Answering, wording: Wording, recipe: Language, place: Place, batches: int = 8
) -> dict[str, float]:
    """The same of the decoder alone, on words in place of pictures."""
    kinds: tuple[Kind, ...] = ("plain", "places", "several", "clip")

    def asked(kind: Kind) -> Iterator[Asked]:
        for number in range(batches):
            start = DEV + number * recipe.stage.pictures
            seeds = range(start, start + recipe.stage.pictures)
            shown = make_scenes(asking.form, kind, recipe.large, seeds, recipe)
            yield Asked(shown.episodes, worded(wording, shown, asking, place))

    chosen = [kind for kind in kinds if (kind, asking.form) != ("clip", "llava")]
    return _shares(asking, 400, place, {kind: asked(kind) for kind in chosen})


def _shares(
    whole: Answering, room: int, place: Place, asked: dict[Kind, Iterator[Asked]]
) -> dict[str, float]:
    packer = Packer(whole.form, {}, 0, room)
    hits: dict[str, list[bool]] = defaultdict(list)
    for kind, turns in asked.items():
        for turn in turns:
            questions = [
                [pair for pair in _questions(one, kind) if packer.fitting(one, [pair[1]])]
                for one in turn.episodes
            ]
            pairs = [
                packer.fitting(one, [question for _, question in named])
                for one, named in zip(turn.episodes, questions, strict=True)
            ]
            packed = pack(pairs, room, packer.tokenizer).to(place.device)
            guess = whole.logits(turn.shown, packed).argmax(-1)
            branch = packed.branch.gather(1, packed.rows)
            for b, named in enumerate(questions):
                for k, (ability, question) in enumerate(named, 1):
                    own = (branch[b] == k) & (packed.targets[b] != IGNORE)
                    if own.any():
                        given, wanted = guess[b][own], packed.targets[b][own]
                        text = packer.tokenizer.decode(given, skip_special_tokens=True)
                        right = bool((given == wanted).all())
                        hits[ability].append(right or _overlaps(ability, text, question.answer))
    return {ability: float(np.mean(values)) for ability, values in hits.items()}


def _questions(one: Episode, kind: Kind) -> list[tuple[str, Question]]:
    """A question of each ability, as the benchmarks ask; no two with one text."""
    asked: dict[str, tuple[str, Question]] = {}
    for i, ability in enumerate(ABILITIES[kind]):
        rng = np.random.default_rng([102, i, one.seed])
        question = one.ask(ability, rng, False, 0.0)
        if question is not None:
            asked.setdefault(question.text, (ability, question))
    return list(asked.values())


def _overlaps(ability: str, given: str, wanted: str) -> bool:
    if ability != "where":
        return False
    one, other = parse_box(given), parse_box(wanted)
    return one is not None and other is not None and overlap(one, other) >= IOU
