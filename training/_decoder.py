"""The decoder on one shared prefix (text and pictures) and many questions that do not see each
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from training._layers import attend, join_heads, linear, rms_norm, rotate, split_heads

BLOCK = (
    # tokens of questions that are compared with each other; a question lies within one block
    80
)
_MASKED = -1e4  # far below any score, and within bfloat16 and float16


@dataclass(frozen=True)
class Packed:
    """Questions with their answers, one after another, for each prefix of a batch.

    Attributes:
        ids: ``[B, T]`` tokens, ``T`` a multiple of :data:`BLOCK`.
        branch: ``[B, T]`` number of the question from 1, and 0 where there is none.
        positions: ``[B, T]`` of the token in its own conversation, counted from the end of the
            pictures.
        rows: ``[B, R]`` places whose next token is part of an answer.
        targets: ``[B, R]`` that token, -100 where there is none.
    """

    ids: Tensor
    branch: Tensor
    positions: Tensor
    rows: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Packed:
        return Packed(
            *(
                getattr(self, name).to(device, non_blocking=True)
                for name in self.__dataclass_fields__
            )
        )


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a prefix are.

    Attributes:
        positions: ``[3, P]`` temporal, vertical and horizontal (all equal for families with one
            position).
        next: position of the first token after it.
    """

    positions: Tensor
    next: int


def layout(family: str, parts: tuple[tuple[int, ...], ...], grid: tuple[int, int]) -> Layout:
    """Positions of text and pictures in turn, as the family's own code counts them."""
    rows, columns = grid
    positions, start = [], 0
    for part in parts:
        positions.append(torch.arange(start, start + len(part)).expand(3, -1))
        start += len(part)
        cell = torch.arange(rows * columns)
        if family == "qwen2_5_vl":
            positions.append(
                start + torch.stack([torch.zeros_like(cell), cell // columns, cell % columns])
            )
            start += max(rows, columns)
        else:
            positions.append((start + cell).expand(3, -1))
            start += rows * columns
    return Layout(torch.cat(positions, 1), start)


def decode(
    text_model: Any, family: str, prefix: Tensor, place: Layout, packed: Packed, unseen: Tensor
) -> Tensor:
    """Hidden states ``[B, R, width]`` from which the answers' tokens are predicted.

    Args:
        text_model: the decoder, a Hugging Face module.
        family: decides whether positions have one or three axes.
        prefix: ``[B, P, width]`` embeddings.
        place: their positions.
        packed: the questions; their embeddings are looked up here.
        unseen: ``[B, P]``, true where nothing attends to a token of the prefix.
    """
    batch, length = prefix.shape[:2]
    x = torch.cat(
        [prefix, functional.embedding(packed.ids, text_model.embed_tokens.weight).to(prefix.dtype)],
        1,
    )
    own = (place.next + packed.positions).expand(3, -1, -1)
    positions = torch.cat([place.positions.to(own.device)[:, None].expand(-1, batch, -1), own], 2)
    cos, sin = text_model.rotary_emb(x, positions if family == "qwen2_5_vl" else positions[0])
    cos, sin = cos.to(x.dtype)[:, None], sin.to(x.dtype)[:, None]
    causal, seen = _masks(packed, unseen, x)
    for layer in text_model.layers[:-1]:
        query, key, value = _heads(layer, rms_norm(x, layer.input_layernorm), cos, sin)
        first = attend(query[:, :, :length], key[:, :, :length], value[:, :, :length], causal)
        rest = _attend_by_block(query, key, value, seen, length)
        x = _feed_forward(
            layer, x + linear(join_heads(torch.cat([first, rest], 2)), layer.self_attn.o_proj)
        )
    return rms_norm(_last(text_model.layers[-1], x, cos, sin, packed, unseen), text_model.norm)


def _masks(packed: Packed, unseen: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Additive masks of the prefix on itself, and of the questions on the prefix and their
    block.
    """
    later = torch.ones(unseen.shape[1], unseen.shape[1], device=like.device, dtype=torch.bool).triu(
        1
    )
    branch = packed.branch.reshape(-1, BLOCK)
    own = (branch[:, :, None] == branch[:, None, :]).tril()
    blocks = unseen.repeat_interleave(len(own) // len(unseen), 0)
    return (
        _additive(later | unseen[:, None], like)[:, None],
        _additive(_after(blocks, ~own), like)[:, None],
    )


def _after(unseen: Tensor, others: Tensor) -> Tensor:
    """What ``R`` queries do not see, of a prefix and of the questions: ``[B, P]`` and ``[B, R, T]``
    to ``[B, R, P + T]``.
    """
    return torch.cat([unseen[:, None].expand(-1, others.shape[1], -1), others], 2)


def _additive(hidden: Tensor, like: Tensor) -> Tensor:
    return torch.where(hidden, _MASKED, 0.0).to(like.dtype)


def _attend_by_block(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor, length: int
) -> Tensor:
    """Questions on the prefix and on their own block: ``[B, heads, T, D]``."""
    batch, heads, _, depth = query.shape

    def blocks(z: Tensor) -> Tensor:
        return (
            z[:, :, length:].reshape(batch, heads, -1, BLOCK, depth).transpose(1, 2)
        )  # [B, blocks, heads, BLOCK, D]

    def context(z: Tensor) -> Tensor:
        own = blocks(z)
        return torch.cat(
            [z[:, None, :, :length].expand(-1, own.shape[1], -1, -1, -1), own], 3
        ).flatten(0, 1)

    mixed = attend(blocks(query).flatten(0, 1), context(key), context(value), seen)
    return (
        mixed.view(batch, -1, heads, BLOCK, depth).transpose(1, 2).reshape(batch, heads, -1, depth)
    )


def _heads(layer: Any, y: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    attention = layer.self_attn
    depth = attention.head_dim
    query, key, value = (
        split_heads(linear(y, m), m.out_features // depth)
        for m in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    return rotate(query, cos, sin), rotate(key, cos, sin), value


def _last(
    layer: Any, x: Tensor, cos: Tensor, sin: Tensor, packed: Packed, unseen: Tensor
) -> Tensor:
    """The last layer, at the rows that predict an answer only."""
    attention, y = layer.self_attn, rms_norm(x, layer.input_layernorm)
    depth, at = attention.head_dim, (unseen.shape[1] + packed.rows)[..., None]
    key = rotate(
        split_heads(linear(y, attention.k_proj), attention.k_proj.out_features // depth), cos, sin
    )
    value = split_heads(linear(y, attention.v_proj), attention.v_proj.out_features // depth)

    def pick(z: Tensor) -> Tensor:
        return z.gather(1, at.expand(-1, -1, z.shape[-1]))

    query = split_heads(linear(pick(y), attention.q_proj), attention.q_proj.out_features // depth)
    batch = x.shape[0]
    own_cos, own_sin = (pick(z[:, 0].expand(batch, -1, -1))[:, None] for z in (cos, sin))
    branch, place = packed.branch, torch.arange(packed.branch.shape[1], device=x.device)
    own = (branch.gather(1, packed.rows)[..., None] == branch[:, None]) & (
        place <= packed.rows[..., None]
    )
    mask = _additive(_after(unseen, ~own), x)[:, None]
    mixed = join_heads(attend(rotate(query, own_cos, own_sin), key, value, mask))
    return _feed_forward(layer, pick(x) + linear(mixed, attention.o_proj))


def _feed_forward(layer: Any, x: Tensor) -> Tensor:
    y, mlp = rms_norm(x, layer.post_attention_layernorm), layer.mlp
    return x + linear(
        functional.silu(linear(y, mlp.gate_proj)) * linear(y, mlp.up_proj), mlp.down_proj
    )
