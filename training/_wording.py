"""Visual tokens as sums of the words for what they show: where the decoder starts from.

The decoder learns on such sums alone (:mod:`training._language`), which spares it the
search for a common space. Then the last map of the projector becomes a linear estimate of what a
token shows, times the same words. From there it is an ordinary map and free to leave.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from training._labels import FIELDS


class Wording(nn.Module):
    """The vector of each value that a token can show.

    Attributes:
        scale: loudness of each field. It is not learnt: while few questions ask for plates and
            places, these would be learnt to be silent, a third of what they were at first, and what
            asks for them later would not hear them.
        free: vectors of the values that no word stands for.
    """

    pairs: Tensor
    scale: Tensor

    def __init__(self, width: int, tokenizer: PreTrainedTokenizerFast, spread: float) -> None:
        super().__init__()
        loudness = torch.tensor([field.loudness for field in FIELDS])
        self.register_buffer("scale", loudness, persistent=False)
        free = sum(len(field.values) for field in FIELDS if not field.word)
        self.free = nn.Parameter(
            torch.randn(free, width, generator=torch.Generator().manual_seed(0)) * spread * 2**0.5
        )
        words = [value for field in FIELDS if field.word for value in field.values]
        ids = [
            [tokenizer.encode(form, add_special_tokens=False)[-1] for form in (word, " " + word)]
            for word in words
        ]
        self.register_buffer("pairs", torch.tensor(ids), persistent=False)

    def words(self, embeddings: Tensor) -> Tensor:
        """The vector of each value: its word's embeddings with and without a space before it:
        ``[values, width]``.
        """
        spoken, free = embeddings[self.pairs].sum(1), self.free[:]
        out: list[Tensor] = []
        for i, field in enumerate(FIELDS):
            number = len(field.values)
            source = spoken if field.word else free
            out.append(source[:number] * self.scale[i])
            if field.word:
                spoken = spoken[number:]
            else:
                free = free[number:]
        return torch.cat(out)

    def forward(self, shown: Tensor, embeddings: Tensor) -> Tensor:
        """``[B, N, values]`` to visual tokens ``[B, N, width]``."""
        return shown @ self.words(embeddings).to(shown.dtype)

    @torch.no_grad()
    def fold(self, last: nn.Linear, estimate: nn.Linear, embeddings: Tensor) -> None:
        """Makes the projector's last map what :meth:`forward` computes from an estimate of what is
        shown.
        """
        words = self.words(embeddings)
        last.weight.copy_(words.T @ estimate.weight)
        last.bias.copy_(words.T @ estimate.bias)
