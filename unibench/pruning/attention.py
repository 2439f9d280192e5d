"""Attention scores without attention maps: the tap keeps queries and keys, scores come from them on
demand.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unibench.ops import product
from unibench.pruning._transformers import wrapped_attention

QUERY_CHUNK = (
    256  # rows of a score matrix held at once: memory stays linear in the number of tokens
)


@dataclass(frozen=True)
class QueryKey:
    """What entered one attention call, after RoPE and query/key norms.

    Attributes:
        query: ``[batch, heads, tokens, head_dim]``.
        key: ``[batch, kv_heads, tokens, head_dim]``.
        scaling: factor of the dot product.
    """

    query: Tensor
    key: Tensor
    scaling: float


def attention_rows(
    query: Tensor, key: Tensor, scaling: float, last_seen: Tensor | None = None
) -> Tensor:
    """``softmax(q k^T)`` of the given query rows, in float32.

    Args:
        query: ``[..., heads, rows, head_dim]``.
        key: ``[..., kv_heads, tokens, head_dim]``.
        scaling: factor of the dot product.
        last_seen: ``[rows]``, the last key each row may see (causal); None sees all.

    Returns:
        ``[..., heads, rows, tokens]``.
    """
    heads, rows = query.shape[-3:-1]
    together = (
        query.float().unflatten(-3, (key.shape[-3], -1)).flatten(-3, -2)
    )  # the heads of a group share keys: no copy of them
    scores = (product(together, key.float().transpose(-1, -2)) * scaling).view(
        *query.shape[:-3], heads, rows, -1
    )
    if last_seen is not None:
        columns = torch.arange(key.shape[-2], device=key.device)
        scores = scores.masked_fill(columns[None, :] > last_seen[:, None], -torch.inf)
    return scores.softmax(-1)


def rotated_back(qk: QueryKey, rotary: tuple[Tensor, Tensor]) -> QueryKey:
    """Queries and keys before their rotary embedding, float32: the rotation undone.

    Args:
        qk: ``[..., heads, tokens, head_dim]``, rotated.
        rotary: cos and sin of the tokens, ``[tokens, rotated]``, halves alike; of fewer channels
            than a head has where only the first ones rotate.
    """
    cos, sin = (part.float() for part in rotary)
    norm = cos.square() + sin.square()  # some kinds of RoPE stretch as they rotate

    def back(x: Tensor) -> Tensor:
        turned, still = x.float().split([cos.shape[-1], x.shape[-1] - cos.shape[-1]], dim=-1)
        first, second = turned.chunk(2, dim=-1)
        plain = (turned * cos - torch.cat([-second, first], -1) * sin) / norm
        return torch.cat([plain, still], -1)

    return QueryKey(back(qk.query), back(qk.key), qk.scaling)


def received_attention(qk: QueryKey, *, others: int | None = None) -> Tensor:
    """Mean attention each token receives, over all heads and query rows, ``[batch, tokens]``,
    float32.

    Accumulated in chunks of query rows; extra memory is ``O(batch * heads * QUERY_CHUNK *
    tokens)``.

    Args:
        qk: queries and keys.
        others: leave out each token's own query, and those of so many prefix tokens; None is all.
    """
    batch, heads, tokens, _ = qk.query.shape
    key = qk.key.float()  # once, not for every chunk
    total = qk.query.new_zeros(batch, tokens, dtype=torch.float32)
    for start in range(others or 0, tokens, QUERY_CHUNK):
        # the whole map of a picture of 4,096 patches and 16 heads would take a gigabyte
        rows = qk.query[:, :, start : start + QUERY_CHUNK]
        seen = attention_rows(rows, key, qk.scaling).sum(1)
        if others is not None:
            seen[:, :, start : start + rows.shape[2]].diagonal(dim1=1, dim2=2).zero_()
        total += seen.sum(1)
    # queries that may look at a token: all, or all patches but itself
    count = tokens if others is None else max(1, tokens - others - 1)
    return total / (heads * count)


class Recorded(Exception):  # noqa: N818
    """Ends a call of an attention module whose queries and keys were all that was wanted."""


class AttentionTap:
    """Shows the queries and keys of chosen attention modules to whoever wants them.

    The attention function is wrapped where transformers looks it up, so that the running kernel
    (sdpa, flash attention, eager) stays what it was and no projection is computed twice.

    Args:
        modules: the attention modules to listen to.
        wanted: where the calls of a module go that runs now; None where it is not listened to.
        bias: added to the attention logits of a module, broadcastable to ``[batch, heads, queries,
            keys]``.
        alone: whether a module is called for its queries and keys alone: it then attends to
            nothing, and its caller meets :class:`Recorded`.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        wanted: Callable[[nn.Module], list[QueryKey] | None],
        bias: Callable[[nn.Module], Tensor | None] = lambda module: None,
        alone: Callable[[nn.Module], bool] = lambda module: False,
    ) -> None:
        self.modules = list(modules)
        self._known = set(self.modules)
        self._wanted, self._bias, self._alone = wanted, bias, alone

    def installed(self) -> AbstractContextManager[None]:
        """Wrap the attention functions for the length of the block."""
        return wrapped_attention(self.modules, self._tapped)

    def _tapped(self, attention: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(attention)
        def tapped(module: nn.Module, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
            if module not in self._known:
                return attention(module, query, key, *args, **kwargs)
            if (bias := self._bias(module)) is not None:
                args = _biased(args, bias.to(query.dtype).expand(1, 1, query.shape[2], -1))
            if (calls := self._wanted(module)) is not None:
                scaling = kwargs.get("scaling")
                # modules that pass none rely on the kernel's default
                scaling = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
                calls.extend(
                    QueryKey(q, k, scaling)
                    for q, k in _unpacked(query, key, kwargs.get("cu_seq_lens_q"))
                )
                if self._alone(module):
                    raise Recorded
            return attention(module, query, key, *args, **kwargs)

        return tapped


def _biased(args: tuple[Any, ...], bias: Tensor) -> tuple[Any, ...]:
    """The positional arguments after the key (value, mask) with the bias in the mask."""
    value, mask, *rest = args
    # the interface is attention(module, query, key, value, mask, ...) in every version
    return (value, bias if mask is None else mask + bias, *rest)


def _unpacked(query: Tensor, key: Tensor, bounds: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Several sequences packed into one flash-attention call, one by one."""
    # Qwen's tower packs windows and pictures into one row under flash attention only
    if bounds is None or query.shape[0] != 1 or len(bounds) <= 2:
        return [(query, key)]
    sizes = (bounds[1:] - bounds[:-1]).tolist()
    return list(zip(query.split(sizes, 2), key.split(sizes, 2), strict=True))
