"""The decoder on one shared prefix (text and pictures) and many questions that do not see each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unibench.models.train._layers import attend, join_heads, linear, rms_norm, rotate, split_heads

_MASKED = -1e4  # far below any score, and within bfloat16 and float16


@dataclass(frozen=True)
class Packed:
    """Questions with their answers, one after another, for each prefix of a batch.

    Attributes:
        ids: ``[B, T]`` tokens.
        branch: ``[B, T]`` number of the question from 1, and 0 where there is none.
        positions: ``[B, T]`` of the token in its own conversation, counted from the end of the pictures.
        rows: ``[B, R]`` places whose next token is part of an answer.
        targets: ``[B, R]`` that token, -100 where there is none.
    """

    ids: Tensor
    branch: Tensor
    positions: Tensor
    rows: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Packed:
        return Packed(*(getattr(self, name).to(device, non_blocking=True) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a prefix are.

    Attributes:
        positions: ``[3, P]`` temporal, vertical and horizontal (all equal for families with one position).
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
            positions.append(start + torch.stack([torch.zeros_like(cell), cell // columns, cell % columns]))
            start += max(rows, columns)
        else:
            positions.append((start + cell).expand(3, -1))
            start += rows * columns
    return Layout(torch.cat(positions, 1), start)


def decode(text_model: Any, family: str, prefix: Tensor, place: Layout, packed: Packed) -> Tensor:
    """Hidden states ``[B, R, width]`` from which the answers' tokens are predicted.

    Args:
        text_model: the decoder, a Hugging Face module.
        family: decides whether positions have one or three axes.
        prefix: ``[B, P, width]`` embeddings.
        place: their positions.
        packed: the questions; their embeddings are looked up here.
    """
    batch, length = prefix.shape[:2]
    x = torch.cat([prefix, functional.embedding(packed.ids, text_model.embed_tokens.weight).to(prefix.dtype)], 1)
    own = (place.next + packed.positions).expand(3, -1, -1)
    positions = torch.cat([place.positions.to(own.device)[:, None].expand(-1, batch, -1), own], 2)
    cos, sin = text_model.rotary_emb(x, positions if family == "qwen2_5_vl" else positions[0])
    cos, sin = cos.to(x.dtype)[:, None], sin.to(x.dtype)[:, None]
    causal, seen = _masks(packed, length, x)
    for layer in text_model.layers[:-1]:
        query, key, value = _heads(layer, rms_norm(x, layer.input_layernorm), cos, sin)
        first = attend(query[:, :, :length], key[:, :, :length], value[:, :, :length], causal)
        rest = attend(query[:, :, length:], key, value, seen)
        x = _feed_forward(layer, x + linear(join_heads(torch.cat([first, rest], 2)), layer.self_attn.o_proj))
    return rms_norm(_last(text_model.layers[-1], x, cos, sin, seen, length, packed.rows), text_model.norm)


def _masks(packed: Packed, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Additive masks of the prefix on itself, and of the questions on everything."""
    width = packed.ids.shape[1]
    causal = torch.full((length, length), _MASKED, device=like.device, dtype=like.dtype).triu(1)
    below = torch.ones(width, width, dtype=torch.bool, device=like.device).tril()
    own = below & (packed.branch[:, :, None] == packed.branch[:, None, :])
    seen = torch.cat([torch.ones(*own.shape[:2], length, dtype=torch.bool, device=like.device), own], 2)
    return causal, torch.where(seen, 0.0, _MASKED).to(like.dtype)[:, None]


def _heads(layer: Any, y: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    attention = layer.self_attn
    depth = attention.head_dim
    query, key, value = (split_heads(linear(y, m), m.out_features // depth) for m in (attention.q_proj, attention.k_proj, attention.v_proj))
    return rotate(query, cos, sin), rotate(key, cos, sin), value


def _last(layer: Any, x: Tensor, cos: Tensor, sin: Tensor, seen: Tensor, length: int, rows: Tensor) -> Tensor:
    """The last layer, at the rows that predict an answer only."""
    attention, y = layer.self_attn, rms_norm(x, layer.input_layernorm)
    depth, at = attention.head_dim, (length + rows)[..., None]
    key = rotate(split_heads(linear(y, attention.k_proj), attention.k_proj.out_features // depth), cos, sin)
    value = split_heads(linear(y, attention.v_proj), attention.v_proj.out_features // depth)

    def pick(z: Tensor) -> Tensor:
        return z.gather(1, at.expand(-1, -1, z.shape[-1]))

    query = split_heads(linear(pick(y), attention.q_proj), attention.q_proj.out_features // depth)
    batch = x.shape[0]
    own_cos, own_sin = (pick(z[:, 0].expand(batch, -1, -1))[:, None] for z in (cos, sin))
    mask = seen[:, 0].gather(1, rows[..., None].expand(-1, -1, seen.shape[-1]))[:, None]
    mixed = join_heads(attend(rotate(query, own_cos, own_sin), key, value, mask))
    return _feed_forward(layer, pick(x) + linear(mixed, attention.o_proj))


def _feed_forward(layer: Any, x: Tensor) -> Tensor:
    y, mlp = rms_norm(x, layer.post_attention_layernorm), layer.mlp
    return x + linear(functional.silu(linear(y, mlp.gate_proj)) * linear(y, mlp.up_proj), mlp.down_proj)
