"""Stage 1: the tower and the projector learn what each visual token shows, and attention learns to
find it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training._labels import FIELDS, IGNORE, NUMBERS, SIZES, Target
from training._loop import Place, Run
from training._pictures import Geometry, Pictures
from training._recipe import Recipe
from training._towers import TOWERS, Looked, Tower
from unibench.tasks.synthvqa._palette import COLORS, SHAPES

_TURN = 0.6
_VISION = ("visual.", "vision_tower.", "multi_modal_projector.")
PAIRS = len(COLORS) * len(SHAPES)


@dataclass(frozen=True)
class Named:
    """What the heads make of a batch.

    Attributes:
        loss: of naming what tokens show.
        hits: by field: hits and number of the tokens that show something, and the share of variance
            not explained.
    """

    loss: Tensor
    hits: dict[str, tuple[float, float]]


class Heads(nn.Module):
    """Linear maps from what the projector's last map reads to what is shown.

    ``map`` gives logits and is thrown away after training. ``estimate`` guesses ones and zeros;
    times words it becomes the projector's last map (:mod:`training._wording`). ``things`` names the
    kinds of things in a picture from the mean of its tokens, weighted by attention.

    Args:
        width: of what the projector's last map reads.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map, self.estimate = nn.Linear(width, sum(SIZES)), nn.Linear(width, sum(NUMBERS))
        self.things = nn.Linear(width, PAIRS)
        nn.init.zeros_(self.estimate.weight)
        nn.init.zeros_(self.estimate.bias)
        for field in FIELDS:
            weights = torch.tensor([field.nothing] + [1.0] * len(field.values))
            self.register_buffer(field.name, weights, persistent=False)

    def forward(self, hidden: Tensor, target: Target, through: bool = True) -> Named:
        """Loss of naming.

        Args:
            hidden: ``[S, N, width]``.
            target: of the pictures.
            through: whether the tower too learns from the errors of the estimate.
        """
        loss, hits = hidden.new_zeros((), dtype=torch.float32), {}
        guess = self.estimate(hidden.float() if through else hidden.detach().float())
        parts = zip(
            self.map(hidden.float()).split(SIZES, -1),
            guess.split(NUMBERS, -1),
            target.values.split(NUMBERS, -1),
            FIELDS,
            strict=True,
        )
        for i, (logits, estimated, shown, field) in enumerate(parts):
            wanted = target.labels[:, i].flatten()
            missed = _unexplained(estimated, shown, target.weight)
            weights = getattr(self, field.name)
            named = functional.cross_entropy(
                logits.flatten(0, 1), wanted, weights, ignore_index=IGNORE
            )
            loss = loss + named + missed
            there = wanted > 0
            right = (logits.flatten(0, 1).argmax(-1) == wanted)[there]
            hits[field.name] = (float(right.sum()), float(there.sum()))
            hits[f"{field.name}_missed"] = (float(missed.detach()), 1.0)
        return Named(loss, hits)

    def finding(self, looked: Looked, target: Target) -> tuple[Tensor, float]:
        """Loss of attention that passes over things, and the share of the last block's that things
        get.

        Attention of the CLS token, or of all patches, is to lie evenly on the tokens that show
        something, in each block from a third of the depth on; and the mean of the tokens, weighted
        by the last block's, is to tell which things there are. Labels of single tokens alone leave
        a tower of this size no reason to look anywhere.
        """
        wanted = target.things.float()
        number = wanted.sum(1, keepdim=True)
        some = (number[:, 0] > 0).float()
        wanted = wanted / number.clamp_min(1)
        loss = looked.hidden.new_zeros((), dtype=torch.float32)
        for found in looked.found:
            crossed = -(wanted * found.clamp_min(1e-6).log()).sum(1)
            loss = loss + (crossed * some).sum() / some.sum().clamp_min(1) / len(looked.found)
        last = looked.found[-1]
        pooled = (last[..., None] * looked.hidden.float()).sum(1)
        told = functional.binary_cross_entropy_with_logits(self.things(pooled), _kinds(target))
        share = (last * target.things).sum(1)
        mean = float((share * some).sum().detach() / some.sum().clamp_min(1))
        return loss + told, mean


def _kinds(target: Target) -> Tensor:
    """Which pairs of colour and shape a picture shows: ``[S, pairs]`` ones and zeros."""
    color, shape = (target.labels[:, i] for i in (0, 1))
    pair = (color - 1) * len(SHAPES) + shape - 1
    known = (color > 0) & (shape > 0)
    shown = torch.zeros(len(pair), PAIRS + 1, device=pair.device)
    return shown.scatter(1, torch.where(known, pair, PAIRS), 1.0)[:, :PAIRS]


def _unexplained(guess: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Share of the variance of ``[B, N, values]`` that a guess does not explain, tokens
    weighted.
    """
    weights = weight[..., None] / weight.sum().clamp_min(1e-6)
    mean = (weights * wanted).sum((0, 1))
    spread = (weights * (wanted - mean) ** 2).sum()
    # a field that hardly any token of a batch shows, such as the sign of a clip, counts less
    return (weights * (guess - wanted) ** 2).sum() / spread.clamp_min(0.02)


def vision_parameters(model: Any) -> list[nn.Parameter]:
    """Of the tower and the projector."""
    return [parameter for _, parameter in vision_named(model)]


def vision_named(model: Any) -> list[tuple[str, nn.Parameter]]:
    """The same with their names."""
    return [
        (name, parameter)
        for name, parameter in model.model.named_parameters()
        if name.startswith(_VISION)
    ]


def train_vision(model: Any, heads: Heads, recipe: Recipe, place: Place) -> Run:
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
    pictures = Pictures(Geometry.of(recipe, tower), recipe, "vision")
    for batch in pictures.batches(run.step, recipe.vision.steps, place.workers):
        assert batch.target is not None, "the stage has no picture whose content is unknown"
        target = batch.target.to(place.device)
        looked = tower.look(batch.images.to(place.device), place.dtype)
        named = heads(looked.hidden, target, run.step >= _TURN * recipe.vision.steps)
        missed, share = heads.finding(looked, target)
        run.take(named.loss + recipe.finding * missed)
        run.count("loss", named.loss.item())
        run.count("found", share)
        for name, (hit, number) in named.hits.items():
            run.count(name, hit, number)
        run.end_step()
    return run


def blocks(model: Any) -> list[nn.Parameter]:
    """Of the tower's blocks."""
    named = vision_named(model)
    return [
        parameter
        for name, parameter in named
        if ".blocks." in name or ".layers." in name or ".layer." in name
    ]
