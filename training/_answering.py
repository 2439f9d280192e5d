"""The whole model on packed questions: from visual tokens to the answers' logits and their loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from training._decoder import Packed, decode, layout
from training._loop import Run
from training._packing import IGNORE
from training._words import Prompt, make_prompt


class Answering:
    """A model's decoder on batches of pictures with packed questions.

    Args:
        model: its ``model.language_model`` is used.
        family: of the model.
        tokenizer: of the model.
        form: family whose conversation form and whose positions of visual tokens are used, by
            default the model's own. Positions on one axis are a special case of positions on three.
    """

    def __init__(
        self, model: Any, family: str, tokenizer: PreTrainedTokenizerFast, form: str | None = None
    ) -> None:
        self.text, self.family, self.form = model.model.language_model, family, form or family
        self.prompts: dict[int, Prompt] = {
            number: make_prompt(self.form, tokenizer, number) for number in (1, 2)
        }

    @property
    def embeddings(self) -> Tensor:
        weight: Tensor = self.text.embed_tokens.weight
        return weight

    def logits(
        self, visual: Tensor, grid: tuple[int, int], packed: Packed, dropped: Tensor | None = None
    ) -> Tensor:
        """What the model predicts at the rows whose next token is part of an answer.

        Args:
            visual: ``[B * pictures, N, width]`` tokens.
            grid: of visual tokens, rows and columns.
            packed: questions of ``B`` conversations.
            dropped: ``[B * pictures, N]``, true for visual tokens that nothing attends to; by
                default none.

        Returns:
            ``[B, R, vocabulary]``.
        """
        batch = len(packed.ids)
        dropped = torch.zeros_like(visual[..., 0], dtype=torch.bool) if dropped is None else dropped
        visual, dropped = visual.unflatten(0, (batch, -1)), dropped.unflatten(0, (batch, -1))
        parts = self.prompts[visual.shape[1]].parts
        prefix, unseen = [], []
        for i, part in enumerate(parts):
            text = functional.embedding(
                torch.tensor(part, device=visual.device), self.embeddings
            ).to(visual.dtype)
            prefix += [text.expand(batch, -1, -1), visual[:, i]]
            unseen += [dropped.new_zeros(batch, len(part)), dropped[:, i]]
        place = layout(self.form, parts, grid)
        states = decode(
            self.text, self.family, torch.cat(prefix, 1), place, packed, torch.cat(unseen, 1)
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
