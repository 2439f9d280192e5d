"""A start for the projector: the last map that brings tokens nearest to the words for what they show.

It spares the language stage the search for a common space. Only the starting point is set, nothing
holds the tokens there; ``align=False`` in the recipe leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from unibench.models.train._labels import FIELDS, IGNORE
from unibench.models.train._loop import Place
from unibench.models.train._pictures import Batch
from unibench.models.train._towers import Tower


def tables(embeddings: Tensor, tokenizer: PreTrainedTokenizerFast, scale: float) -> list[Tensor]:
    """For each field the vector of each value: the embedding of its word, with and without a space before it."""
    generator = torch.Generator().manual_seed(0)
    out = []
    for name, values, _ in FIELDS:
        if name in ("middle", "slot"):  # no word stands for them
            vectors = torch.randn(len(values), embeddings.shape[1], generator=generator) * embeddings.std().cpu() * 2**0.5
        else:
            ids = [[tokenizer.encode(word, add_special_tokens=False)[-1] for word in (value, " " + value)] for value in values]
            vectors = embeddings.cpu()[torch.tensor(ids)].sum(1)
        out.append(torch.cat([torch.zeros(1, vectors.shape[1]), vectors]).to(embeddings.device) * scale)
    return out


@torch.no_grad()
def align(tower: Tower, embeddings: Tensor, tokenizer: PreTrainedTokenizerFast, batches: Iterator[Batch], place: Place) -> float:
    """Sets the last map of the projector by ridge regression.

    Returns:
        Share of the words' variance that the tokens explain.
    """
    words = tables(embeddings, tokenizer, 1.5)
    known, wanted, weight = [], [], []
    for batch in batches:
        hidden, targets = tower.hidden(batch.images.to(place.device), place.dtype).float(), batch.labels.to(place.device)
        clear = (targets != IGNORE).all(1)
        shown = (targets[:, :-1] > 0).any(1)
        vectors = sum(functional.embedding(targets[:, i].clamp_min(0), table) for i, table in enumerate(words))
        assert isinstance(vectors, Tensor)
        known.append(hidden[clear])
        wanted.append(vectors[clear])
        weight.append(torch.where(shown, 1.0, 0.15)[clear])  # plain ground is most of a picture
    x, y, w = torch.cat(known), torch.cat(wanted), torch.cat(weight)[:, None]
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    gram = (x * w).T @ x
    solution = torch.linalg.solve(gram + 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), device=x.device), (x * w).T @ y)
    tower.last.weight.copy_(solution[:-1].T)
    tower.last.bias.copy_(solution[-1])
    centred = y - (y * w).sum(0) / w.sum()
    return float(1 - ((x @ solution - y).pow(2) * w).sum() / (centred.pow(2) * w).sum())
