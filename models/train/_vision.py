"""Stage 1: the tower and the projector learn what each visual token shows."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unibench.models.train._align import Wording, indicators, unexplained
from unibench.models.train._labels import FIELDS, IGNORE, SIZES
from unibench.models.train._loop import Place, Run
from unibench.models.train._pictures import Pictures, Shape
from unibench.models.train._recipe import Recipe, Size
from unibench.models.train._towers import TOWERS, Tower

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


def train_align(model: Any, heads: Heads, wording: Wording, recipe: Recipe, place: Place) -> None:
    """Makes what tokens show readable by a linear map, for the projector's last one to start from."""
    tower: Tower = TOWERS[recipe.family](model.model)
    pictures = Pictures(shapes(recipe.sizes, tower), recipe.alignment.pictures, recipe.alignment.first_seed)
    modules = {"model": model, "heads": heads, "wording": wording}
    parameters = [*vision_parameters(model), *heads.parameters(), *wording.estimate.parameters()]
    run = Run("align", recipe.alignment, modules, parameters, place, wording.estimate.parameters())
    if run.step == 0:
        LOG.info("tokens explain %.3f", wording.solve(tower, pictures.batches(0, 12, place.workers), place))
    for batch in pictures.batches(run.step, recipe.alignment.steps, place.workers):
        targets, hidden = batch.labels.to(place.device), tower.hidden(batch.images.to(place.device), place.dtype)
        apart = unexplained(wording.estimate(hidden.float()), *indicators(targets))
        loss, hits = heads(hidden, targets)
        run.take(loss + 4 * apart)
        run.count("apart", apart.item())
        for name, (hit, number) in hits.items():
            run.count(name, hit, number)
        if line := run.report():
            LOG.info("align %s", line)


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
