"""Visual tokens near the words for what they show: where the decoder starts from.

It spares the decoder the search for a common space. During the language stages the last map of the
projector is a fixed linear estimate of what each token shows, times the words' current embeddings, so
that the two stay together while the embeddings move. Afterwards it is an ordinary map and free to
leave. ``align=False`` in the recipe leaves all of it out.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from unibench.models.train._labels import FIELDS, IGNORE
from unibench.models.train._loop import Place
from unibench.models.train._pictures import Batch
from unibench.models.train._towers import Tower

_WORDLESS = ("middle", "slot")  # fields whose values no word stands for
_NUMBERS = [len(values) for _, values, _ in FIELDS]
_VALUES = sum(_NUMBERS)
_BY_LOGITS = ("glyph", "shape")
# How loud each field is in a token. The ground is in all of them; the logits of glyphs, which are not zero
# where there is no glyph, drown the things at 3 (seen: reading is learnt, colours and shapes are not).
_LOUDNESS = {"color": 2.0, "shape": 1.5, "middle": 1.0, "glyph": 1.0, "slot": 1.0, "plate": 1.0, "ground": 0.4}


def indicators(targets: Tensor) -> tuple[Tensor, Tensor]:
    """What tokens show as ones and zeros, and how much each token counts.

    Args:
        targets: ``[B, fields, N]`` indices of values.

    Returns:
        ``[B, N, values]``, and ``[B, N]``: nothing where it is unclear what a token shows, little on
        plain ground, which is most of a picture.
    """
    known = targets.clamp_min(0)
    hot = [functional.one_hot(known[:, i], len(values) + 1)[..., 1:] for i, (_, values, _) in enumerate(FIELDS)]
    shown, clear = (targets[:, :-1] > 0).any(1), (targets != IGNORE).all(1)
    return torch.cat(hot, -1).float(), torch.where(shown, 1.0, 0.15) * clear


class Wording(nn.Module):
    """The projector's last map as an estimate of what is shown, times words.

    Attributes:
        estimate: from the projector's last input to the indicators; set by :meth:`solve`.
    """

    pairs: Tensor

    def __init__(self, inputs: int, width: int, tokenizer: PreTrainedTokenizerFast, spread: float) -> None:
        super().__init__()
        self.estimate = nn.Linear(inputs, _VALUES)
        self.scale = nn.Parameter(torch.tensor([_LOUDNESS[name] for name, _, _ in FIELDS]))
        free = sum(len(values) for name, values, _ in FIELDS if name in _WORDLESS)
        self.free = nn.Parameter(torch.randn(free, width, generator=torch.Generator().manual_seed(0)) * spread * 2**0.5)
        words = [value for name, values, _ in FIELDS if name not in _WORDLESS for value in values]
        ids = [[tokenizer.encode(form, add_special_tokens=False)[-1] for form in (word, " " + word)] for word in words]
        self.register_buffer("pairs", torch.tensor(ids), persistent=False)

    def words(self, embeddings: Tensor) -> Tensor:
        """The vector of each value: its word's embeddings with and without a space before it: ``[values, width]``."""
        spoken, free = embeddings[self.pairs].sum(1), self.free[:]
        out: list[Tensor] = []
        for i, (name, values, _) in enumerate(FIELDS):
            wordless = name in _WORDLESS
            source = free if wordless else spoken
            out.append(source[: len(values)] * self.scale[i])
            free, spoken = (source[len(values) :], spoken) if wordless else (free, source[len(values) :])
        return torch.cat(out)

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """``[B, N, inputs]`` to visual tokens ``[B, N, width]``."""
        guess = functional.linear(hidden, self.estimate.weight.to(hidden.dtype), self.estimate.bias.to(hidden.dtype))
        return guess @ self.words(embeddings).to(hidden.dtype)

    @torch.no_grad()
    def fold(self, last: nn.Linear, embeddings: Tensor) -> None:
        """Makes the projector's last map what :meth:`forward` computes."""
        words = self.words(embeddings)
        last.weight.copy_(words.T @ self.estimate.weight)
        last.bias.copy_(words.T @ self.estimate.bias)

    @torch.no_grad()
    def solve(self, tower: Tower, heads: nn.Linear, batches: Iterator[Batch], place: Place) -> dict[str, float]:
        """Sets the estimate by ridge regression, and from the logits of the vision stage's heads where there are many values.

        Least squares explain only a third of the glyphs although the heads name nine in ten of them.

        Returns:
            For each field the share of tokens whose word fits best among those of the field.
        """
        known, wanted, weight = [], [], []
        for batch in batches:
            hidden = tower.hidden(batch.images.to(place.device), place.dtype).float()
            shown, counts = indicators(batch.labels.to(place.device))
            known.append(hidden[counts > 0])
            wanted.append(shown[counts > 0])
            weight.append(counts[counts > 0])
        x, y, w = torch.cat(known), torch.cat(wanted), torch.cat(weight)
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        gram = (x * w[:, None]).T @ x
        ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), device=x.device)
        solution = torch.linalg.solve(gram + ridge, (x * w[:, None]).T @ y)
        self.estimate.weight.copy_(solution[:-1].T)
        self.estimate.bias.copy_(solution[-1])
        for name, rows, logits in _slices():
            if name in _BY_LOGITS:
                weights = heads.weight[logits] - heads.weight[logits].mean(0)
                bias = heads.bias[logits] - heads.bias[logits].mean()
                shown = y[:, rows].sum(1) > 0
                height = ((x[shown, :-1] @ weights.T + bias) * y[shown, rows]).sum(1).mean()
                self.estimate.weight[rows], self.estimate.bias[rows] = weights / height, bias / height
        guess = self.estimate(x[:, :-1])
        hits = {}
        for name, rows, _ in _slices():
            shown = y[:, rows].sum(1) > 0
            hits[name] = round(float((guess[shown, rows].argmax(1) == y[shown, rows].argmax(1)).float().mean()), 3)
        return hits


def _slices() -> Iterator[tuple[str, slice, slice]]:
    """For each field its places among the indicators, and among the heads' outputs without "nothing"."""
    start = 0
    for i, (name, values, _) in enumerate(FIELDS):
        yield name, slice(start, start + len(values)), slice(start + i + 1, start + i + 1 + len(values))
        start += len(values)
