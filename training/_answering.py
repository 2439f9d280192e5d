"""The whole model on packed questions: from visual tokens to the answers' logits and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from training._decoder import Packed, Stack, decode
from training._loop import Run
from training._packing import IGNORE
from training._prompt import AXES, Sight, layout, make_prompt, runs_of


@dataclass(frozen=True)
class Shown:
    """The visual tokens of ``B`` conversations.

    Attributes:
        tokens: ``[B, N, width]``, in the order of the prompt.
        sight: what they are of.
        grid: rows and columns of a picture, or of a moment of the clip.
        deep: what is added to them after each of the first layers, like ``tokens``.
    """

    tokens: Tensor
    sight: Sight
    grid: tuple[int, int]
    deep: Sequence[Tensor] = ()


class Answering:
    """A decoder on batches of conversations with packed questions.

    Args:
        model: its ``model.language_model`` is used.
        form: family whose conversation form and positions are used, by default the model's own.
        rotary: of that family, by default the model's own.
    """

    def __init__(self, model: Any, form: str, rotary: Any = None) -> None:
        text = model.model.language_model
        self.form = form
        self.stack = Stack(text, rotary or text.rotary_emb, form in AXES)

    @property
    def embeddings(self) -> Tensor:
        weight: Tensor = self.stack.text.embed_tokens.weight
        return weight

    def logits(self, shown: Shown, packed: Packed, dropped: Tensor | None = None) -> Tensor:
        """What the model predicts at the rows whose next token is part of an answer.

        Args:
            shown: visual tokens of ``B`` conversations.
            packed: their questions.
            dropped: ``[B, N]``, true for visual tokens that nothing attends to; by default none.

        Returns:
            ``[B, R, vocabulary]``.
        """
        batch, visual = len(packed.ids), shown.tokens
        if dropped is None:
            dropped = torch.zeros_like(visual[..., 0], dtype=torch.bool)
        prompt = make_prompt(self.form, shown.sight)
        runs = runs_of(shown.sight, shown.grid, self.form)
        lengths = [moments * rows * columns for moments, rows, columns in runs]
        prefix, unseen = [], []
        pieces = zip(prompt.parts, visual.split(lengths, 1), dropped.split(lengths, 1), strict=True)
        for part, tokens, hidden in pieces:
            ids = torch.tensor(part, device=visual.device, dtype=torch.long)
            text = functional.embedding(ids, self.embeddings).to(visual.dtype)
            prefix += [text.expand(batch, -1, -1), tokens]
            unseen += [dropped.new_zeros(batch, len(part)), hidden]
        place = layout(self.form, prompt.parts, runs)
        states = decode(
            self.stack, torch.cat(prefix, 1), place, packed, torch.cat(unseen, 1), shown.deep
        )
        return functional.linear(states, self.embeddings.to(states.dtype)).float()

    def learn(self, run: Run, logits: Tensor, packed: Packed, extra: Tensor | None = None) -> None:
        """One step of a run on the loss of the answers, and on ``extra`` where there is any."""
        loss, right, number = answer_loss(logits, packed)
        run.take(loss if extra is None else loss + extra)
        run.count("answers", loss.item())
        run.count("right", right, number)
        run.count("questions", float(packed.branch.max(1).values.sum()))


def answer_loss(logits: Tensor, packed: Packed) -> tuple[Tensor, int, int]:
    """Mean cross-entropy of the answers' tokens, how many were right, how many there are."""
    flat, targets = logits.flatten(0, 1), packed.targets.flatten()
    loss = functional.cross_entropy(flat, targets, ignore_index=IGNORE)
    asked = targets != IGNORE
    return loss, int((flat.argmax(-1) == targets)[asked].sum()), int(asked.sum())
