"""Removing cache entries between the prefill and the first decoding step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unibench.pruning.chooser import Chooser
from unibench.pruning.cutting import left_padded, segment
from unibench.pruning.prompt import Prompt
from unibench.pruning.stage import Stage


def evict(prompt: Prompt, chooser: Chooser, cache: Any) -> None:
    """Asks the method once per decoder layer which visual tokens stay in its cache, and drops the
    others.

    Args:
        prompt: just read; its segments then say what each layer's cache holds.
        chooser: of the session.
        cache: a dynamic cache of transformers.
    """
    assert prompt.rotary is not None
    for index, store in enumerate(cache.layers):
        prompt.current = prompt.segments.get(index)
        blank = store.keys.new_empty(store.keys.shape[0], store.keys.shape[2], 0)
        rows = [_staying(prompt, chooser, index, blank, row) for row in range(len(blank))]
        if all(len(staying) == len(prompt.origin_of(row)[0]) for row, staying in enumerate(rows)):
            continue
        gather, valid = left_padded(rows)
        take = gather[:, None, :, None].expand(-1, store.keys.shape[1], -1, store.keys.shape[3])
        store.keys, store.values = store.keys.gather(2, take), store.values.gather(2, take)
        prompt.segments[index] = segment(
            prompt.origins(blank).gather(1, gather), valid, prompt.rotary
        )


def _staying(prompt: Prompt, chooser: Chooser, layer: int, blank: Tensor, row: int) -> Tensor:
    """Places in the padded cache of one sample's tokens that stay."""
    origin, pad = prompt.origin_of(row)
    stays = torch.ones(len(origin), dtype=torch.bool, device=blank.device)
    for ctx in chooser.contexts(prompt, Stage(layer, chooser.method.select), blank, row):
        keep = chooser.method.evict(ctx)
        if keep is not None:
            stays[ctx.visual] = False
            stays[ctx.visual[keep.to(blank.device)]] = True
    return stays.nonzero()[:, 0] + pad
