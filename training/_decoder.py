"""The decoder on one shared prefix (text and pictures) and many questions that do not see each
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from training._layers import attend, join_heads, linear, rms_norm, rotate, split_heads
from training._prompt import Layout

# tokens of questions that are compared with each other; a question lies within one block
BLOCK = 80
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
class Stack:
    """The layers of a decoder, and whose rotary positions they work with.

    Attributes:
        text: a language model of Hugging Face.
        rotary: that of a family; the shared decoder works with each in turn.
        axes: whether positions have three axes.
    """

    text: Any
    rotary: Any
    axes: bool


def decode(
    stack: Stack,
    prefix: Tensor,
    place: Layout,
    packed: Packed,
    unseen: Tensor,
    deep: Sequence[Tensor] = (),
) -> Tensor:
    """Hidden states ``[B, R, width]`` from which the answers' tokens are predicted.

    Args:
        stack: the decoder.
        prefix: ``[B, P, width]`` embeddings.
        place: their positions.
        packed: the questions; their embeddings are looked up here.
        unseen: ``[B, P]``, true where nothing attends to a token of the prefix.
        deep: ``[B, visual tokens, width]``, added to the visual tokens after each of the first
            layers (DeepStack).
    """
    text, (batch, length) = stack.text, prefix.shape[:2]
    asked = functional.embedding(packed.ids, text.embed_tokens.weight).to(prefix.dtype)
    x = torch.cat([prefix, asked], 1)
    own = (place.next + packed.positions).expand(3, -1, -1)
    positions = torch.cat([place.positions.to(own.device)[:, None].expand(-1, batch, -1), own], 2)
    cos, sin = stack.rotary(x, positions if stack.axes else positions[0])
    cos, sin = cos.to(x.dtype)[:, None], sin.to(x.dtype)[:, None]
    causal, seen = _masks(packed, unseen, x)
    at = place.visual.to(x.device).nonzero()[:, 0]
    for number, layer in enumerate(text.layers[:-1]):
        query, key, value = _heads(layer, rms_norm(x, layer.input_layernorm), cos, sin)
        first = attend(query[:, :, :length], key[:, :, :length], value[:, :, :length], causal)
        rest = _attend_by_block(query, key, value, seen, length)
        mixed = join_heads(torch.cat([first, rest], 2))
        x = _feed_forward(layer, x + linear(mixed, layer.self_attn.o_proj))
        if number < len(deep):
            x = x.index_add(1, at, deep[number])
    return rms_norm(_last(text.layers[-1], x, cos, sin, packed, unseen), text.norm)


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
    query, key = _normed(attention, "q", y), _normed(attention, "k", y)
    value = split_heads(linear(y, attention.v_proj), attention.v_proj.out_features // depth)
    return rotate(query, cos, sin), rotate(key, cos, sin), value


def _normed(attention: Any, name: str, y: Tensor) -> Tensor:
    """Queries (``q``) or keys (``k``), normalised where the family does so (Qwen3-VL)."""
    projection, norm = getattr(attention, f"{name}_proj"), getattr(attention, f"{name}_norm", None)
    heads = split_heads(linear(y, projection), projection.out_features // attention.head_dim)
    return heads if norm is None else rms_norm(heads, norm)


def _last(
    layer: Any, x: Tensor, cos: Tensor, sin: Tensor, packed: Packed, unseen: Tensor
) -> Tensor:
    """The last layer, at the rows that predict an answer only."""
    attention, y = layer.self_attn, rms_norm(x, layer.input_layernorm)
    depth, at = attention.head_dim, (unseen.shape[1] + packed.rows)[..., None]
    key = rotate(_normed(attention, "k", y), cos, sin)
    value = split_heads(linear(y, attention.v_proj), attention.v_proj.out_features // depth)

    def pick(z: Tensor) -> Tensor:
        return z.gather(1, at.expand(-1, -1, z.shape[-1]))

    query = _normed(attention, "q", pick(y))
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
