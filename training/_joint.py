"""The last stages: a family's tower and the shared decoder learn to answer from pictures and clips,
together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from training._answering import Answering, Shown
from training._labels import only_ground
from training._layers import linear
from training._loop import Place, Run
from training._packing import Packer
from training._pictures import Batch, Geometry, Pictures
from training._recipe import Recipe, StageName
from training._towers import TOWERS, Looked, Tower
from training._vision import Heads, blocks


def train_joint(
    model: Any,
    heads: Heads,
    recipe: Recipe,
    place: Place,
    name: StageName = "joint",
    drop_ground: bool = False,
    watch: Callable[[Run], None] | None = None,
) -> Run:
    """Trains everything in place. The loss of the vision stage fades to a tenth in the first half
    of the joint stage, and stays there in the video stage.

    With ``drop_ground`` nothing attends to visual tokens that show nothing but ground.
    """
    whole, tower = Answering(model, recipe.family), TOWERS[recipe.family](model.model)
    model.requires_grad_(True)
    stage = recipe.stage(name)
    pictures = Pictures(Geometry.of(recipe, tower), recipe, name)
    layers = [*model.model.language_model.layers.parameters(), *blocks(model)]
    lasts = [tower.last, *tower.lasts]
    run = Run(
        name,
        stage,
        {"model": model, "heads": heads},
        [*model.parameters(), *heads.parameters()],
        place,
        [parameter for last in lasts for parameter in last.parameters()],
        [parameter for parameter in layers if parameter.dim() == 2],
    )
    packer = Packer(recipe.family, recipe.mix, recipe.questions, recipe.text_tokens, recipe.brief)
    for batch in pictures.batches(run.step, stage.steps, place.workers):
        looked = tower.look(batch.images.to(place.device), place.dtype)
        fade = max(0.1, 1 - 2 * run.step / stage.steps) if name == "joint" else 0.1
        extra = _named(run, heads, looked, batch, recipe, fade, place)
        packed = packer.pack(batch.episodes(), run.step).to(place.device)
        dropped = _ground(batch).to(place.device) if drop_ground else None
        shown = shown_of(tower, looked, batch, len(packed.ids))
        whole.learn(run, whole.logits(shown, packed, dropped), packed, extra)
        run.end_step()
        if watch is not None:
            watch(run)
    return run


def _named(
    run: Run,
    heads: Heads,
    looked: Looked,
    batch: Batch,
    recipe: Recipe,
    fade: float,
    place: Place,
) -> Tensor | None:
    """The fading part of the vision stage's loss, where it is known what is shown."""
    if batch.target is None:
        return None
    target = batch.target.to(place.device)
    named = heads(looked.hidden, target)
    missed, share = heads.finding(looked, target)
    run.count("found", share)
    for field, (hit, number) in named.hits.items():
        run.count(field, hit, number)
    # attention keeps its loss: it is what methods will read
    loss: Tensor = named.loss * (recipe.fading * fade) + missed * recipe.finding
    return loss


def _ground(batch: Batch) -> Tensor:
    """``[B, N]``, true where a visual token shows nothing but ground."""
    if batch.target is None:
        number = batch.grid[0] * batch.grid[1]
        return torch.zeros(len(batch.seeds), number, dtype=torch.bool)
    ground = only_ground(batch.target.labels).unflatten(0, (len(batch.seeds), -1))
    return cast(Tensor, ground.flatten(1))


def shown_of(tower: Tower, looked: Looked, batch: Batch, conversations: int) -> Shown:
    """The visual tokens of each conversation, after the projector."""

    def by_conversation(hidden: Tensor, last: Any) -> Tensor:
        tokens = linear(hidden, last).unflatten(0, (conversations, -1))
        return cast(Tensor, tokens.flatten(1, 2))

    deep = [
        by_conversation(hidden, last) for hidden, last in zip(looked.deep, tower.lasts, strict=True)
    ]
    tokens = by_conversation(looked.hidden, tower.last)
    return Shown(tokens, batch.sight, batch.grid, deep)


def visual_tokens(tower: Tower, batch: Batch, place: Place) -> Shown:
    """What the decoder is shown of a batch."""
    looked = tower.look(batch.images.to(place.device), place.dtype)
    return shown_of(tower, looked, batch, len(batch.seeds))
