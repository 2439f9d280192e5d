"""Several tokens become one: which go together, and the weights of their mean.

A merge is a matrix of weights ``[rows, tokens]`` times the tokens, so that it gives the same bits
each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unibench.ops.similarity import at_least_float32, cosine
from unibench.ops.topk import ranking
from unibench.ops.work import product


@dataclass(frozen=True)
class Matching:
    """How ``n`` tokens become fewer rows.

    Attributes:
        anchor: ``[rows]`` the token whose place each row takes.
        slot: ``[n]`` the row that each token goes into; -1 is none.
        weights: ``[rows, n]`` of the tokens in each row; None is their mean.
    """

    anchor: Tensor
    slot: Tensor
    weights: Tensor | None = None


def bipartite(metric: Tensor, merges: int, protect_first: bool = False) -> Matching:
    """One step of bipartite soft matching (ToMe): tokens at even places join their most similar odd
    one.

    Args:
        metric: ``[n, C]`` what similarity is measured on.
        merges: number of tokens that disappear, at most ``n // 2``.
        protect_first: token 0 (CLS) takes no part, and the even tokens that stay keep their order.

    Returns:
        Rows in the official order: even tokens that stay, by falling similarity, then all odd ones.
    """
    even = torch.arange(0, len(metric), 2, device=metric.device)
    odd = torch.arange(1, len(metric), 2, device=metric.device)
    similarity = cosine(metric[even], metric[odd])
    if protect_first:
        similarity[0] = -torch.inf
    best, partner = similarity.max(-1)
    order = ranking(best)
    gone, stays = order[:merges], order[merges:]
    if protect_first:
        stays = stays.sort().values
    slot = torch.empty(len(metric), dtype=torch.long, device=metric.device)
    slot[even[stays]] = torch.arange(len(stays), device=metric.device)
    slot[odd] = torch.arange(len(odd), device=metric.device) + len(stays)
    slot[even[gone]] = partner[gone] + len(stays)
    return Matching(torch.cat([even[stays], odd]), slot)


def membership(slot: Tensor, rows: int, weight: Tensor) -> Tensor:
    """``[rows, n]``: ``weight [n]`` of each token in the row that it goes into, zero elsewhere."""
    inside = torch.arange(rows, device=slot.device)[:, None] == slot[None]
    return inside * at_least_float32(weight)


def pairs(inside: Tensor, tokens: Tensor, own: Tensor | None = None, first: int = 0) -> Tensor:
    """``[2, M]``: a row and a token that went into it, for each entry of ``inside`` but zeros.

    Args:
        inside: ``[rows, n]``, as of :func:`membership`.
        tokens: ``[n]`` numbers of the tokens.
        own: ``[rows]`` a token that each row began with.
        first: number of the first row.

    >>> pairs(torch.tensor([[0, 1, 1], [1, 0, 0]]), torch.tensor([4, 5, 6]), torch.tensor([8, 9]))
    tensor([[0, 0, 1, 0, 1],
            [5, 6, 4, 8, 9]])
    """
    row, token = inside.nonzero(as_tuple=True)
    into, given = [row], [tokens[token]]
    if own is not None:
        into.append(torch.arange(len(own), device=row.device))
        given.append(own)
    return torch.stack([torch.cat(into) + first, torch.cat(given)])


def into_rows(groups: Tensor, keep: Tensor, count: int) -> Tensor:
    """``[2, M]``: a row and a token that went into it, of pairs of tokens.

    Args:
        groups: ``[2, M]`` a token that rows may stand at, and one that it stands for.
        keep: ``[rows]`` the token that each row stands at; pairs of others are left out.
        count: number of tokens.

    >>> into_rows(torch.tensor([[3, 3, 1], [0, 3, 2]]), torch.tensor([2, 3]), 4)
    tensor([[1, 1],
            [0, 3]])
    """
    place = torch.full((count,), -1, device=keep.device)
    place[keep] = torch.arange(len(keep), device=keep.device)
    into = place[groups[0]]
    return torch.stack([into, groups[1]])[:, into >= 0]


def owned(owner: Tensor, keep: Tensor) -> Tensor:
    """The same for tokens that each belong to one row at most.

    Args:
        owner: ``[n]`` the token at whose place the row stands that each went into; -1 is none.
        keep: as in :func:`into_rows`.

    >>> owned(torch.tensor([3, -1, 2, 3]), torch.tensor([2, 3]))
    tensor([[1, 0, 1],
            [0, 2, 3]])
    """
    given = (owner >= 0).nonzero()[:, 0]
    return into_rows(torch.stack([owner[given], given]), keep, len(owner))


def mean_weights(slot: Tensor, rows: int, weight: Tensor) -> Tensor:
    """``[rows, n]``: the weighted mean of what goes into each row; an empty row stays zero."""
    inside = membership(slot, rows, weight)
    return inside / inside.sum(1, keepdim=True).clamp_min(torch.finfo(inside.dtype).tiny)


def grouped_sum(rows: Tensor, slot: Tensor, groups: int) -> Tensor:
    """``[groups, D]``: the sum of ``rows [n, D]`` in each group, zero for an empty one.

    As a product with :func:`membership`, without its matrix, and the same bits each time.

    >>> grouped_sum(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1, 0, 1]), 3)
    tensor([[2.],
            [5.],
            [0.]])
    """
    if rows.device.type == "cpu":
        return rows.new_zeros(groups, rows.shape[1]).index_add(0, slot, rows)
    order = slot.argsort(stable=True)  # a GPU adds scattered rows in any order
    lengths = torch.bincount(slot, minlength=groups)
    return torch.segment_reduce(rows[order], "sum", lengths=lengths, axis=0, initial=0)


def nearest_weights(keys: Tensor, rows: Tensor, neighbours: int, weight: Tensor) -> Tensor:
    """``[len(rows), N]``: one for the row's own token plus ``weight`` of those most similar to it.

    Args:
        keys: ``[N, C]`` what similarity is measured on, by cosine.
        rows: tokens that gather others.
        neighbours: how many each gathers, itself excluded, whether gathered by others or not.
        weight: ``[N]`` of a gathered token; the sum is not normalised.
    """
    similarity = cosine(keys[rows], keys)
    similarity.scatter_(1, rows[:, None], -torch.inf)
    near = ranking(similarity)[:, : min(neighbours, len(keys) - 1)]
    gathered = torch.zeros_like(similarity).scatter_(1, near, at_least_float32(weight)[near])
    return gathered.scatter_(1, rows[:, None], 1.0)


def proportional_attention(query: Tensor, key: Tensor, value: Tensor, size: Tensor) -> Tensor:
    """Attention in which a merged token counts as often as the tokens it stands for (ToMe).

    Args:
        query, key, value: ``[heads, n, head_dim]``.
        size: ``[n]`` number of tokens in each.
    """
    logits = product(query, key.transpose(-1, -2)) * query.shape[-1] ** -0.5
    attended: Tensor = product((logits + size.log()).softmax(-1), value)
    return attended
