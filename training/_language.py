"""The decoder learns to answer from sums of words for what each token shows; no picture is drawn.

One decoder serves all families: it sees the conversation forms and positions of each in turn, and
its biases, which only Qwen2.5-VL's decoder has, stay zero.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from training._answering import Answering, Shown
from training._build import build
from training._episodes import SIGHTS, Episode, episode
from training._labels import target_of
from training._loop import Place, Run
from training._packing import Packer
from training._prompt import AXES, runs_of
from training._recipe import RECIPES, Kind, Language, Mix, Recipe, Size, batch_of
from training._wording import Wording
from training._words import make_tokenizer, role_ids, vocabulary_size

FAMILY = "qwen2_5_vl"  # whose decoder it is
# pixels of a scene in a token
_CELL = {"qwen2_5_vl": 28, "qwen3_vl": 28, "internvl": 28, "llava": 21}
# rows and columns of a small picture or a frame, where the family makes them others
_GRIDS: dict[tuple[str, Kind], tuple[int, int]] = {
    ("internvl", "several"): (12, 12),
    ("internvl", "clip"): (12, 12),
    ("llava", "several"): (16, 16),
    ("qwen3_vl", "several"): (12, 12),
    ("qwen3_vl", "clip"): (7, 7),
}
_TEXT_TOKENS = 320


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Conversations of one kind, and what each of their tokens shows: ``[B, N, values]``."""

    episodes: tuple[Episode, ...]
    values: Tensor
    kind: Kind
    grid: tuple[int, int]


def scenes_at(recipe: Language, step: int, form: str | None = None) -> Scenes:
    """The scenes of a step, the same on every run; ``form`` in place of the recipe's."""
    own = form or recipe.forms[step % len(recipe.forms)]
    kind, size = _kind(recipe, step, own), _size(recipe, step)
    start = recipe.stage.first_seed + step * recipe.stage.pictures
    return make_scenes(own, kind, size, range(start, start + recipe.stage.pictures), recipe)


def make_scenes(
    form: str, kind: Kind, size: Size, seeds: Sequence[int], recipe: Language
) -> Scenes:
    """What tokens of a family show of as many of these seeds as make a step."""
    side = {"plain": size, "places": recipe.large}.get(kind, (224, 224))
    cell = _CELL[form]
    grid = _GRIDS.get((form, kind), (side[1] // cell, side[0] // cell))
    runs = runs_of(SIGHTS[kind], grid, form)
    number = batch_of(recipe.stage, sum(t * rows * columns for t, rows, columns in runs))
    episodes = tuple(episode(kind, seed, size) for seed in list(seeds)[:number])
    pairs = kind == "clip" and form in AXES
    scenes = [scene for one in episodes for scene in one.scenes]
    values = target_of(scenes, grid, pairs).values
    values = values.unflatten(0, (len(episodes), -1)).flatten(1, 2)
    generator = torch.Generator().manual_seed(seeds[0])
    values = values + recipe.noise * torch.randn(values.shape, generator=generator)
    return Scenes(episodes, values, kind, grid)


def _kind(recipe: Language, step: int, form: str) -> Kind:
    if _is_small(recipe, step):
        return "plain"
    later = recipe.round_at(step)
    kinds = recipe.kinds if later is None else later.kinds
    kind = kinds[step % len(kinds)]
    return "places" if (kind, form) == ("clip", "llava") else kind


def _size(recipe: Language, step: int) -> Size:
    if not _is_small(recipe, step):
        return recipe.large
    at = step // len(recipe.forms)
    return recipe.small[at // (1 if step < _turn(recipe) else 2) % len(recipe.small)]


def _is_small(recipe: Language, step: int) -> bool:
    turn = _turn(recipe)
    return step < turn or (step < 2 * turn and step // len(recipe.forms) % 2 == 0)


def _turn(recipe: Language) -> float:
    return recipe.turn * recipe.stage.steps


@cache
def rotary_of(form: str) -> Any:
    """The rotary positions of a family at full size, which have no weights."""
    tokenizer = make_tokenizer(form)
    model = build(RECIPES[form], role_ids(form, tokenizer), vocabulary_size(tokenizer), 0)
    return model.model.language_model.rotary_emb


Watch = Callable[[Run], None]


def train_language(
    model: Any, wording: Wording, recipe: Language, place: Place, watch: Watch | None = None
) -> Run:
    """Trains the decoder of an otherwise unused model, and the wording, in place; continues a run
    that was cut short.
    """
    core = model.model.language_model
    model.requires_grad_(False)
    core.requires_grad_(True)
    for name, parameter in core.named_parameters():
        parameter.requires_grad_(not name.endswith("bias"))
    modules = {"decoder": core, "wording": wording}
    parameters = [*core.parameters(), *wording.parameters()]
    asking = {form: Answering(model, form, rotary_of(form)) for form in set(recipe.forms)}
    packers = {form: _packers(recipe, form) for form in asking}
    before = 0
    for part in (None, *recipe.later):
        name, stage = "language", recipe.stage
        if part is not None:
            name, stage = part.name, dataclasses.replace(stage, steps=part.steps, rate=part.rate)
        run = Run(name, stage, modules, parameters, place, (), _matrices(core))
        while run.step < stage.steps:
            step = before + run.step
            form = recipe.forms[step % len(recipe.forms)]
            shown = scenes_at(recipe, step)
            packer = next(one for start, one in reversed(packers[form]) if step >= start)
            packed = packer.pack(shown.episodes, step).to(place.device)
            seen = worded(wording, shown, asking[form], place)
            asking[form].learn(run, asking[form].logits(seen, packed), packed)
            run.end_step()
            if watch is not None:
                watch(run)
        before += stage.steps
    return run


def tune_language(
    model: Any, wording: Wording, recipe: Recipe, course: Language, place: Place
) -> Run:
    """The same on a family's own decoder, which has adopted the shared one, in its own form; the
    wording stays.
    """
    core = model.model.language_model
    model.requires_grad_(False)
    core.requires_grad_(True)
    wording.requires_grad_(False)
    last = course.later[-1]
    stage = dataclasses.replace(
        course.stage, steps=recipe.tune, rate=last.rate / 2, first_seed=12_000_000
    )
    # as the last round from the first step on
    course = dataclasses.replace(
        course,
        stage=stage,
        later=(),
        turn=0.0,
        kinds=last.kinds,
        mixes=((0.0, last.mix),),
        briefs=(last.brief,),
        others=last.others,
    )
    parameters = [*core.parameters()]
    run = Run("tune", stage, {"decoder": core}, parameters, place, (), _matrices(core))
    asking, packer = Answering(model, recipe.family), _packers(course, recipe.family)[-1][1]
    while run.step < stage.steps:
        shown = scenes_at(course, run.step, recipe.family)
        packed = packer.pack(shown.episodes, run.step).to(place.device)
        asking.learn(run, asking.logits(worded(wording, shown, asking, place), packed), packed)
        run.end_step()
    return run


def worded(wording: Wording, shown: Scenes, asking: Answering, place: Place) -> Shown:
    """Visual tokens as sums of words."""
    values = shown.values.to(place.device, place.dtype)
    return Shown(wording(values, asking.embeddings), SIGHTS[shown.kind], shown.grid)


def _matrices(core: nn.Module) -> list[nn.Parameter]:
    layers: Any = core.layers
    return [parameter for parameter in layers.parameters() if parameter.dim() == 2]


def _packers(recipe: Language, form: str) -> list[tuple[int, Packer]]:
    """One for each mix, with the step from which it holds."""

    def packer(mix: Mix, brief: float, others: dict[Kind, Mix]) -> Packer:
        return Packer(form, mix, recipe.questions, _TEXT_TOKENS, brief, others)

    found = [
        (math.ceil(share * recipe.stage.steps), packer(mix, brief, recipe.others))
        for (share, mix), brief in zip(recipe.mixes, recipe.briefs, strict=True)
    ]
    start = recipe.stage.steps
    for part in recipe.later:
        found.append((start, packer(part.mix, part.brief, part.others)))
        start += part.steps
    return found


@torch.no_grad()
def adopt(model: Any, decoder: nn.Module) -> None:
    """Gives a model of a family the shared decoder; all families have one vocabulary.

    Where queries and keys are normalised (Qwen3-VL), they get the size back that they have without,
    taken over inputs of unit size.
    """
    core, source = model.model.language_model, dict(decoder.named_parameters())
    for name, parameter in core.named_parameters():
        if name in source:
            parameter.copy_(source[name])
    for layer in core.layers:
        attention, scale = layer.self_attn, layer.input_layernorm.weight
        for name in ("q", "k"):
            if (norm := getattr(attention, f"{name}_norm", None)) is not None:
                weight = getattr(attention, f"{name}_proj").weight
                norm.weight.fill_(float((weight * scale).pow(2).sum(1).mean().sqrt()))
