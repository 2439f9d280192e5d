"""The attention that tokens receive, from the log-sum-exp of each query.

A softmax needs the whole row before it can scale its first entry, so the mean of a map by columns
seems to need the map. But a fused kernel has seen every row already and hands out its log-sum-exp::

    map[q, k] = exp(q . k * scaling - logsumexp[q])        received[k] = sum of map[:, k]

so each entry stands for itself, and tiles of any size are summed up as they come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unibench.ops.work import product

TILE_BYTES = 2**25  # of the entries of the map that are there at once
aten: Any = torch.ops.aten
Columns = Callable[[Tensor, Tensor, float, Tensor, int], Tensor]
"""``(query, key, scaling, log-sum-exp, first row) -> [batch, tokens]``: the columns of the map,
summed over heads and over the rows from the first one on."""


def received(
    query: Tensor, key: Tensor, scaling: float, others: int | None = None, *, columns: Columns
) -> Tensor:
    """Mean attention each token receives over all heads and query rows, ``[batch, tokens]``,
    float32.

    Args:
        query: ``[batch, heads, tokens, head_dim]``.
        key: ``[batch, kv_heads, tokens, head_dim]``.
        scaling: factor of the dot product.
        others: leave out each token's own query, and those of so many prefix tokens; None is all.
        columns: how the map is summed up, :func:`in_tiles` or a kernel.
    """
    _, heads, tokens, _ = query.shape
    weight, first = log_sum_exp(query, key, scaling), others or 0
    total = columns(query, key, scaling, weight, first)
    if others is None:
        return total / (heads * tokens)
    total[:, first:] -= _own(query, key, scaling, weight)[:, first:]
    # queries that may look at a token: all patches but itself
    return total / (heads * max(1, tokens - others - 1))


def in_tiles(query: Tensor, key: Tensor, scaling: float, weight: Tensor, first: int) -> Tensor:
    """The sums of :data:`Columns` in tiles of rows; memory beside the input is that of ``key`` in
    float32, and a tile.
    """
    batch, heads, tokens, _ = query.shape
    keys = key.float().transpose(-1, -2)  # once, not for every tile
    total = query.new_zeros(batch, tokens, dtype=torch.float32)
    rows = max(1, TILE_BYTES // (4 * batch * heads * tokens))
    for start in range(first, tokens, rows):
        part = query[:, :, start : start + rows].float()
        # heads of a group share their keys: one product, and no copy of the keys
        shared = part.unflatten(1, (key.shape[1], -1)).flatten(2, 3)
        tile = product(shared, keys).view(batch, heads, part.shape[2], tokens)
        tile = tile.mul_(scaling).sub_(weight[:, :, start : start + rows, None]).exp_()
        total += tile.sum((1, 2))
    return total


def _own(query: Tensor, key: Tensor, scaling: float, weight: Tensor) -> Tensor:
    """The diagonal of the map, summed over heads, ``[batch, tokens]``."""
    grouped = query.float().unflatten(1, (key.shape[1], -1))
    logits = (grouped * key.float()[:, :, None]).sum(-1).flatten(1, 2) * scaling
    own: Tensor = (logits - weight).exp().sum(1)
    return own


def log_sum_exp(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """``log(sum(exp(q k^T * scaling)))`` of each query over all keys, ``[batch, heads, queries]``,
    float32; by torch's flash attention where it has a kernel for the input.
    """
    if (fused := _by_flash(query, key, scaling)) is not None:
        return fused
    found = []
    rows = max(1, TILE_BYTES // (4 * query.shape[0] * query.shape[1] * key.shape[2]))
    keys = key.float().transpose(-1, -2)
    for part in query.split(rows, 2):
        shared = part.float().unflatten(1, (key.shape[1], -1)).flatten(2, 3)
        logits = product(shared, keys).view(*part.shape[:3], -1).mul_(scaling)
        found.append(logits.logsumexp(-1))
    return torch.cat(found, 2)


def _by_flash(query: Tensor, key: Tensor, scaling: float) -> Tensor | None:
    """The log-sum-exp that SDPA's flash operator returns beside its output; None without one."""
    half, width = query.dtype in (torch.float16, torch.bfloat16), query.shape[-1]
    if query.shape[1] != key.shape[1]:
        return None
    # the keys stand in for the values, which the log-sum-exp does not depend on
    if query.device.type == "cpu":
        found = aten._scaled_dot_product_flash_attention_for_cpu(query, key, key, scale=scaling)
    elif query.device.type == "cuda" and half and width % 8 == 0 and width <= 256:
        found = aten._scaled_dot_product_flash_attention(query, key, key, scale=scaling)
    else:
        return None
    sums: Tensor = found[1]
    # some versions pad the rows
    return sums[..., : query.shape[2]].float()
