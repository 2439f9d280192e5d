"""Removing cache entries between the prefill and the first decoding step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unibench.errors import UsageError
from unibench.pruning.chooser import Chooser
from unibench.pruning.cutting import left_padded, segment
from unibench.pruning.prefill import Prefill


def evict(prefill: Prefill, chooser: Chooser, cache: Any) -> None:
    """Asks the method once per decoder layer which visual tokens stay in its cache, and drops the
    others.

    Args:
        prefill: just read; its prompt's segments then say what each layer's cache holds.
        chooser: of the session.
        cache: a dynamic cache of transformers.

    Raises:
        UsageError: the cache does not hold its keys as the model made them.
    """
    segments = prefill.prompt.segments
    for index, store in enumerate(cache.layers):
        prefill.current = segments.get(index)
        held = prefill.prompt.length if prefill.current is None else prefill.current.length
        if store.keys.shape[2] != held:
            raise UsageError(
                f"a {type(store).__name__} does not hold its keys as the model made them, so no"
                " entry can be removed; use the dynamic cache"
            )
        # a context wants hidden states, of which an eviction has none: rows of no width
        blank = store.keys.new_empty(store.keys.shape[0], store.keys.shape[2], 0)
        rows = [_staying(prefill, chooser, index, blank, row) for row in range(len(blank))]
        if all(len(staying) == len(prefill.origin_of(row)[0]) for row, staying in enumerate(rows)):
            continue
        gather, valid = left_padded(rows)
        take = gather[:, None, :, None].expand(-1, store.keys.shape[1], -1, store.keys.shape[3])
        # in the layers of the cache itself: generate() goes on with this very object
        store.keys, store.values = store.keys.gather(2, take), store.values.gather(2, take)
        origin, sizes = prefill.origins(blank).gather(1, gather), prefill.sizes
        if prefill.current is None or prefill.current.sizes is None:
            sizes = None  # a layer in front of the cut that weighs tokens
        end = None if prefill.current is None else prefill.current.end
        segments[index] = replace(segment(origin, valid, prefill.rotary, sizes), end=end)


def _staying(prefill: Prefill, chooser: Chooser, layer: int, blank: Tensor, row: int) -> Tensor:
    """Places in the padded cache of one sample's tokens that stay."""
    origin, pad = prefill.origin_of(row)
    stays = torch.ones(len(origin), dtype=torch.bool, device=blank.device)
    for rows, keep in chooser.evictions(prefill, layer, blank, row):
        stays[rows] = False
        stays[rows[keep.to(blank.device)]] = True
    return stays.nonzero()[:, 0] + pad
