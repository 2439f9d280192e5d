"""Stage 1: the tower and the projector learn what each visual token shows."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from unibench.models.train._labels import FIELDS, IGNORE, SIZES
from unibench.models.train._loop import Place, Run
from unibench.models.train._pictures import Pictures, Shape
from unibench.models.train._recipe import Recipe, Size
from unibench.models.train._towers import TOWERS, Tower
from unibench.models.train._wording import Wording

LOG = logging.getLogger(__name__)
_VISION = ("visual.", "vision_tower.", "multi_modal_projector.")


class Heads(nn.Module):
    """One linear map to all fields; thrown away after training.

    It reads what the projector's last map reads, and so stays valid when the language stage trains that map.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, sum(SIZES))
        for name, values, nothing in FIELDS:
            self.register_buffer(name, torch.tensor([nothing] + [1.0] * len(values)), persistent=False)

    def forward(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, tuple[float, int]]]:
        """Loss and, by field, hits and number of the tokens that show something.

        Args:
            hidden: ``[B, N, width]``.
            targets: ``[B, fields, N]``.
        """
        loss, hits = hidden.new_zeros((), dtype=torch.float32), {}
        for i, (logits, (name, _, _)) in enumerate(zip(self.map(hidden.float()).split(SIZES, -1), FIELDS, strict=True)):
            target = targets[:, i].flatten()
            loss = loss + functional.cross_entropy(logits.flatten(0, 1), target, getattr(self, name), ignore_index=IGNORE)
            shown = target > 0
            hits[name] = (float((logits.flatten(0, 1).argmax(-1) == target)[shown].sum()), int(shown.sum()))
        return loss, hits


def shapes(sizes: tuple[Size, ...], tower: Tower) -> tuple[Shape, ...]:
    return tuple(Shape(size, tower.pixels(size), tower.grid(size)) for size in sizes)


def vision_parameters(model: Any) -> list[nn.Parameter]:
    """Of the tower and the projector."""
    return [parameter for name, parameter in model.model.named_parameters() if name.startswith(_VISION)]


def make_wording(model: Any, heads: Heads, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, place: Place) -> Wording:
    """The start of the projector's last map, from what the vision stage has learnt."""
    tower: Tower = TOWERS[recipe.family](model.model)
    spread = float(model.model.language_model.embed_tokens.weight.detach().std())
    wording = Wording(tower.last.in_features, recipe.width, tokenizer, spread).to(place.device)
    pictures = Pictures(shapes(recipe.sizes, tower), recipe.vision.pictures, recipe.vision.first_seed + 4_000_000)
    LOG.info("tokens name %s", wording.solve(tower, heads.map, pictures.batches(0, 30, place.workers), place))
    return wording


def train_vision(model: Any, heads: Heads, recipe: Recipe, place: Place) -> None:
    """Trains in place; continues a run that was cut short."""
    tower: Tower = TOWERS[recipe.family](model.model)
    run = Run("vision", recipe.vision, {"model": model, "heads": heads}, [*vision_parameters(model), *heads.parameters()], place)
    pictures = Pictures(shapes(recipe.sizes, tower), recipe.vision.pictures, recipe.vision.first_seed)
    for batch in pictures.batches(run.step, recipe.vision.steps, place.workers):
        loss, hits = heads(tower.hidden(batch.images.to(place.device), place.dtype), batch.labels.to(place.device))
        run.take(loss)
        run.count("loss", loss.item())
        for name, (hit, number) in hits.items():
            run.count(name, hit, number)
        if line := run.report():
            LOG.info("vision %s", line)
