"""The last stage: a family's tower and the shared decoder learn to answer from pictures,
together.
"""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training._answering import Answering
from training._decoder import Packed
from training._labels import only_ground
from training._layers import linear
from training._loop import Place, Run
from training._packing import Packer
from training._pictures import Batch, Pictures
from training._recipe import Recipe
from training._towers import TOWERS, Tower
from training._vision import Heads, blocks, shapes

LOG = logging.getLogger(__name__)


def train_joint(
    model: Any,
    heads: Heads,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    place: Place,
    drop_ground: bool = False,
) -> None:
    """Trains everything in place. The loss of the vision stage fades to a tenth in the first half.

    With ``drop_ground`` nothing attends to visual tokens that show nothing but ground.
    """
    whole, tower = Answering(model, recipe.family, tokenizer), TOWERS[recipe.family](model.model)
    model.requires_grad_(True)
    pictures = Pictures(shapes(recipe.sizes, tower), recipe.joint.pictures, recipe.joint.first_seed)
    modules = {"model": model, "heads": heads}
    matrices = [
        p for p in [*model.model.language_model.layers.parameters(), *blocks(model)] if p.dim() == 2
    ]
    run = Run(
        "joint",
        recipe.joint,
        modules,
        [*model.parameters(), *heads.parameters()],
        place,
        tower.last.parameters(),
        matrices,
    )
    packers = {
        number: Packer(prompt, recipe.mix, recipe.questions, recipe.text_tokens, recipe.brief)
        for number, prompt in whole.prompts.items()
    }
    for batch in pictures.batches(run.step, recipe.joint.steps, place.workers):
        hidden = tower.hidden(batch.images.to(place.device), place.dtype)
        share = recipe.fading * max(0.1, 1 - 2 * run.step / recipe.joint.steps)
        named, hits = heads(hidden, batch.labels.to(place.device))
        for name, (hit, number) in hits.items():
            run.count(name, hit, number)
        packed = _packed(batch, packers, recipe.pictures_at(run.step), run.step).to(place.device)
        dropped = only_ground(batch.labels).to(place.device) if drop_ground else None
        whole.learn(
            run,
            whole.logits(linear(hidden, tower.last), batch.grid, packed, dropped),
            packed,
            named * share,
        )
        if line := run.report():
            LOG.info("%s %s", run.name, line)


def _packed(batch: Batch, packers: dict[int, Packer], together: int, seed: int) -> Packed:
    groups = [batch.scenes[i : i + together] for i in range(0, len(batch.scenes), together)]
    return packers[together].pack(groups, seed)


def visual_tokens(tower: Tower, batch: Batch, place: Place) -> Tensor:
    """``[B, N, width]``."""
    return linear(tower.hidden(batch.images.to(place.device), place.dtype), tower.last)
