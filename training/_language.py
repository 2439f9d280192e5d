"""The decoder learns to answer from sums of words for what each token shows; no picture is drawn.

One decoder serves all three families: it sees the conversation forms and positions of each in turn,
and its biases, which LLaVA's decoder lacks, stay zero.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from training._answering import Answering
from training._labels import indicators, labels
from training._loop import Place, Run
from training._packing import Packer
from training._recipe import Language, Size
from training._wording import Wording
from training._words import WORDS
from unibench.tasks.synthvqa._scene import Scene, make_scene

LOG = logging.getLogger(__name__)
FAMILY = "qwen2_5_vl"  # whose decoder it is: the one with positions on three axes
_CELL = {"qwen2_5_vl": 28, "internvl": 28, "llava": 21}  # pixels of a scene in a token
_TEXT_TOKENS = 320


@dataclass(frozen=True)
class Shown:
    """Scenes of one size, and what each of their tokens shows: ``[B, N, values]``."""

    scenes: tuple[Scene, ...]
    values: Tensor
    grid: tuple[int, int]


def scenes_at(recipe: Language, step: int) -> Shown:
    """The scenes of a step, the same on every run."""
    form, size = recipe.forms[step % len(recipe.forms)], _size(recipe, step)
    grid = size[1] // _CELL[form], size[0] // _CELL[form]
    start = recipe.stage.first_seed + step * recipe.stage.pictures
    scenes = tuple(make_scene(seed, size) for seed in range(start, start + recipe.stage.pictures))
    values, _ = indicators(torch.from_numpy(np.stack([labels(scene, grid) for scene in scenes])))
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(start))
    return Shown(scenes, values + recipe.noise * noise, grid)


def _size(recipe: Language, step: int) -> Size:
    turn, at = recipe.turn * recipe.stage.steps, step // len(recipe.forms)
    small = step < turn or (step < 2 * turn and at % 2 == 0)
    return (
        recipe.small[at // (1 if step < turn else 2) % len(recipe.small)] if small else recipe.large
    )


def train_language(
    model: Any, wording: Wording, recipe: Language, tokenizer: PreTrainedTokenizerFast, place: Place
) -> None:
    """Trains the decoder of an otherwise unused model, and the wording, in place; continues a run
    that was cut short.
    """
    core = model.model.language_model
    model.requires_grad_(False)
    core.requires_grad_(True)
    for name, parameter in core.named_parameters():
        parameter.requires_grad_(not name.endswith("bias"))
    matrices = [parameter for parameter in core.layers.parameters() if parameter.dim() == 2]
    modules, parameters = (
        {"decoder": core, "wording": wording},
        [*core.parameters(), *wording.parameters()],
    )
    asking = {form: Answering(model, FAMILY, tokenizer, form) for form in recipe.forms}
    packers = {form: _packers(recipe, whole) for form, whole in asking.items()}
    steps, peak = recipe.again
    rounds = (
        ("language", recipe.stage, 0),
        ("again", dataclasses.replace(recipe.stage, steps=steps, rate=peak), recipe.stage.steps),
    )
    for name, stage, before in rounds:
        run = Run(name, stage, modules, parameters, place, (), matrices)
        while run.step < stage.steps:
            step = before + run.step
            form = recipe.forms[step % len(recipe.forms)]
            shown = scenes_at(recipe, step)
            phase = sum(step >= share * recipe.stage.steps for share, _ in recipe.mixes) - 1
            packed = (
                packers[form][phase]
                .pack([[scene] for scene in shown.scenes], step)
                .to(place.device)
            )
            visual = wording(shown.values.to(place.device, place.dtype), asking[form].embeddings)
            asking[form].learn(run, asking[form].logits(visual, shown.grid, packed), packed)
            if line := run.report():
                LOG.info("%s %s", name, line)


def _packers(recipe: Language, whole: Answering) -> list[Packer]:
    """One for each mix."""
    mixes = zip(recipe.mixes, recipe.briefs, strict=True)
    return [
        Packer(whole.prompts[1], mix, recipe.questions, _TEXT_TOKENS, brief)
        for (_, mix), brief in mixes
    ]


@torch.no_grad()
def adopt(
    model: Any,
    family: str,
    tokenizer: PreTrainedTokenizerFast,
    decoder: nn.Module,
    spoken: PreTrainedTokenizerFast,
) -> None:
    """Gives a model of a family the shared decoder; rows of embeddings move by the token's text, or
    its role.
    """
    core, source = model.model.language_model, dict(decoder.named_parameters())
    for name, parameter in core.named_parameters():
        if "embed_tokens" not in name:
            parameter.copy_(source[name])
    roles = {
        WORDS[family].roles[role]: token
        for role, token in WORDS[FAMILY].roles.items()
        if role in WORDS[family].roles
    }
    known, rows = spoken.get_vocab(), source["embed_tokens.weight"]
    for token, place in tokenizer.get_vocab().items():
        if (twin := known.get(roles.get(token, token))) is not None:
            core.embed_tokens.weight[place] = rows[twin]
