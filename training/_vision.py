"""Stage 1: the tower and the projector learn what each visual token shows."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training._labels import FIELDS, IGNORE, NUMBERS, SIZES, indicators
from training._loop import Place, Run
from training._pictures import Pictures, Shape
from training._recipe import Recipe, Size
from training._towers import TOWERS, Tower

LOG = logging.getLogger(__name__)
_TURN = 0.6
_VISION = ("visual.", "vision_tower.", "multi_modal_projector.")


class Heads(nn.Module):
    """Two linear maps from what the projector's last map reads to what is shown.

    One gives logits and is thrown away after training. The other estimates ones and zeros; times
    words it becomes the projector's last map (:mod:`training._wording`).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map, self.estimate = nn.Linear(width, sum(SIZES)), nn.Linear(width, sum(NUMBERS))
        nn.init.zeros_(self.estimate.weight)
        for name, values, nothing in FIELDS:
            self.register_buffer(
                name, torch.tensor([nothing] + [1.0] * len(values)), persistent=False
            )

    def forward(
        self, hidden: Tensor, targets: Tensor, through: bool = True
    ) -> tuple[Tensor, dict[str, tuple[float, float]]]:
        """Loss, and by field: hits and number of the tokens that show something, and the share of
        variance not explained.

        Args:
            hidden: ``[B, N, width]``.
            targets: ``[B, fields, N]``.
            through: whether the tower too learns from the errors of the estimate.
        """
        loss, seen = hidden.new_zeros((), dtype=torch.float32), {}
        wanted, weight = indicators(targets)
        guess = self.estimate(hidden.float() if through else hidden.detach().float())
        parts = zip(
            self.map(hidden.float()).split(SIZES, -1),
            guess.split(NUMBERS, -1),
            wanted.split(NUMBERS, -1),
            FIELDS,
            strict=True,
        )
        for i, (logits, estimated, shown, (name, _, _)) in enumerate(parts):
            target = targets[:, i].flatten()
            missed = _unexplained(estimated, shown, weight)
            loss = (
                loss
                + functional.cross_entropy(
                    logits.flatten(0, 1), target, getattr(self, name), ignore_index=IGNORE
                )
                + missed
            )
            there = target > 0
            seen[name] = (
                float((logits.flatten(0, 1).argmax(-1) == target)[there].sum()),
                float(there.sum()),
            )
            seen[f"{name}_missed"] = (float(missed.detach()), 1.0)
        return loss, seen


def _unexplained(guess: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Share of the variance of ``[B, N, values]`` that a guess does not explain, tokens
    weighted.
    """
    weights = weight[..., None] / weight.sum()
    mean = (weights * wanted).sum((0, 1))
    return (weights * (guess - wanted) ** 2).sum() / (
        weights * (wanted - mean) ** 2
    ).sum().clamp_min(1e-6)


def shapes(sizes: tuple[Size, ...], tower: Tower) -> tuple[Shape, ...]:
    return tuple(Shape(size, tower.pixels(size), tower.grid(size)) for size in sizes)


def vision_parameters(model: Any) -> list[nn.Parameter]:
    """Of the tower and the projector."""
    return [parameter for _, parameter in vision_named(model)]


def vision_named(model: Any) -> list[tuple[str, nn.Parameter]]:
    return [
        (name, parameter)
        for name, parameter in model.model.named_parameters()
        if name.startswith(_VISION)
    ]


def train_vision(model: Any, heads: Heads, recipe: Recipe, place: Place) -> None:
    """Trains in place; continues a run that was cut short.

    The tower learns to classify first. From :data:`_TURN` on it also learns to be estimated well:
    both from the start is slow (characters 20 % after 600 steps against 63 %).
    """
    tower: Tower = TOWERS[recipe.family](model.model)
    trained = vision_parameters(model)
    matrices = [parameter for parameter in blocks(model) if parameter.dim() == 2]
    run = Run(
        "vision",
        recipe.vision,
        {"model": model, "heads": heads},
        [*trained, *heads.parameters()],
        place,
        (),
        matrices,
    )
    pictures = Pictures(
        shapes(recipe.sizes, tower), recipe.vision.pictures, recipe.vision.first_seed
    )
    for batch in pictures.batches(run.step, recipe.vision.steps, place.workers):
        hidden = tower.hidden(batch.images.to(place.device), place.dtype)
        loss, hits = heads(
            hidden, batch.labels.to(place.device), run.step >= _TURN * recipe.vision.steps
        )
        run.take(loss)
        run.count("loss", loss.item())
        for name, (hit, number) in hits.items():
            run.count(name, hit, number)
        if line := run.report():
            LOG.info("vision %s", line)


def blocks(model: Any) -> list[nn.Parameter]:
    """Of the tower's blocks."""
    named = vision_named(model)
    return [
        parameter
        for name, parameter in named
        if ".blocks." in name or ".layers." in name or ".layer." in name
    ]
