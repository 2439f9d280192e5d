"""Stages 2 and 3: the decoder learns to answer, first from a frozen tower, then together with it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from unibench.models.train._decoder import Packed, decode, layout
from unibench.models.train._layers import linear
from unibench.models.train._loop import Place, Run
from unibench.models.train._packing import IGNORE, Packer
from unibench.models.train._pictures import Batch, Pictures
from unibench.models.train._recipe import Recipe
from unibench.models.train._towers import TOWERS, Tower
from unibench.models.train._vision import Heads, shapes
from unibench.models.train._wording import Wording
from unibench.models.train._words import Prompt, make_prompt

LOG = logging.getLogger(__name__)


class Answering:
    """The whole model on batches of pictures with packed questions."""

    def __init__(self, model: Any, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, place: Place) -> None:
        self.model, self.family, self.place = model, recipe.family, place
        self.tower: Tower = TOWERS[recipe.family](model.model)
        self.wording: Wording | None = None
        self.prompts: dict[int, Prompt] = {number: make_prompt(recipe.family, tokenizer, number) for number in (1, 2)}

    @property
    def embeddings(self) -> Tensor:
        weight: Tensor = self.model.model.language_model.embed_tokens.weight
        return weight

    def logits(self, hidden: Tensor, grid: tuple[int, int], packed: Packed) -> Tensor:
        """What the model predicts at the rows whose next token is part of an answer.

        Args:
            hidden: ``[B * pictures, N, C]``, the input of the projector's last map.
            grid: of visual tokens, rows and columns.
            packed: questions of ``B`` conversations.

        Returns:
            ``[B, R, vocabulary]``.
        """
        batch = len(packed.ids)
        visual = linear(hidden, self.tower.last) if self.wording is None else self.wording(hidden, self.embeddings)
        visual = visual.unflatten(0, (batch, -1))
        parts = self.prompts[visual.shape[1]].parts
        prefix = []
        for i, part in enumerate(parts):
            text = functional.embedding(torch.tensor(part, device=hidden.device), self.embeddings).to(hidden.dtype)
            prefix += [text.expand(batch, -1, -1), visual[:, i]]
        place = layout(self.family, parts, grid)
        states = decode(self.model.model.language_model, self.family, torch.cat(prefix, 1), place, packed)
        return functional.linear(states, self.embeddings.to(states.dtype)).float()


def answer_loss(logits: Tensor, packed: Packed) -> tuple[Tensor, int, int]:
    """Mean cross-entropy of the answers' tokens, how many were right, how many there are."""
    flat, targets = logits.flatten(0, 1), packed.targets.flatten()
    loss = functional.cross_entropy(flat, targets, ignore_index=IGNORE)
    asked = targets != IGNORE
    return loss, int((flat.argmax(-1) == targets)[asked].sum()), int(asked.sum())


def train_language(
    model: Any, wording: Wording | None, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, place: Place, easy: bool = False
) -> None:
    """Trains the decoder in place, on small pictures if ``easy``; continues a run that was cut short.

    With a wording the projector's last map follows the words, without one it learns for itself.
    """
    name, stage, sizes = ("easy", recipe.easy, recipe.small) if easy else ("language", recipe.language, recipe.sizes)
    whole = Answering(model, recipe, tokenizer, place)
    pictures = Pictures(shapes(sizes, whole.tower), stage.pictures, stage.first_seed, stage.fills)
    whole.wording = wording
    model.requires_grad_(False)
    model.model.language_model.requires_grad_(True)
    whole.tower.last.requires_grad_(wording is None)
    learnt: dict[str, nn.Module] = {"model": model} if wording is None else {"model": model, "wording": wording}
    parameters = [*model.parameters(), *([] if wording is None else (wording.free, wording.scale))]
    run = Run(name, stage, learnt, parameters, place, whole.tower.last.parameters(), _matrices(model))
    packers = _packers(whole, recipe)
    for batch in pictures.batches(run.step, stage.steps, place.workers):
        with torch.no_grad():
            hidden = whole.tower.hidden(batch.images.to(place.device), place.dtype)
        if wording is not None:
            wording.fold(whole.tower.last, whole.embeddings)
        _learn(run, whole, hidden, batch, packers, 1)
    if wording is not None:
        wording.fold(whole.tower.last, whole.embeddings)
    model.requires_grad_(True)


def train_joint(model: Any, heads: Heads, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, place: Place) -> None:
    """Trains everything in place. The loss of the vision stage fades out in the first half."""
    whole = Answering(model, recipe, tokenizer, place)
    model.requires_grad_(True)
    pictures = Pictures(shapes(recipe.sizes, whole.tower), recipe.joint.pictures, recipe.joint.first_seed)
    parameters = [*model.parameters(), *heads.parameters()]
    modules = {"model": model, "heads": heads}
    run = Run("joint", recipe.joint, modules, parameters, place, whole.tower.last.parameters(), _matrices(model))
    packers = _packers(whole, recipe)
    for batch in pictures.batches(run.step, recipe.joint.steps, place.workers):
        hidden = whole.tower.hidden(batch.images.to(place.device), place.dtype)
        share = recipe.fading * max(0.0, 1 - 2 * run.step / recipe.joint.steps)
        extra = heads(hidden, batch.labels.to(place.device))[0] * share if share else None
        _learn(run, whole, hidden, batch, packers, recipe.pictures_at(run.step), extra)


def _matrices(model: Any) -> list[nn.Parameter]:
    """Of the decoder's layers."""
    return [parameter for parameter in model.model.language_model.layers.parameters() if parameter.dim() == 2]


def _packers(whole: Answering, recipe: Recipe) -> dict[int, Packer]:
    """By number of pictures in a conversation."""
    return {number: Packer(prompt, recipe.mix, recipe.questions, recipe.text_tokens) for number, prompt in whole.prompts.items()}


def _learn(
    run: Run, whole: Answering, hidden: Tensor, batch: Batch, packers: dict[int, Packer], together: int, extra: Tensor | None = None
) -> None:
    groups = [batch.scenes[i : i + together] for i in range(0, len(batch.scenes), together)]
    packed = packers[together].pack(groups, run.step).to(whole.place.device)
    loss, right, number = answer_loss(whole.logits(hidden, batch.grid, packed), packed)
    run.take(loss if extra is None else loss + extra)
    run.count("answers", loss.item())
    run.count("right", right, number)
    run.count("questions", float(packed.branch.max(1).values.sum()))
    if line := run.report():
        LOG.info("%s %s", run.name, line)
