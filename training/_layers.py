"""Layers as functions of a module's parameters, in the dtype of their input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def linear(x: Tensor, module: Any) -> Tensor:
    """``module`` (a Linear) on ``x``; the parameters stay in float32."""
    weight: Tensor = module.weight
    return functional.linear(
        x, weight.to(x.dtype), None if module.bias is None else module.bias.to(x.dtype)
    )


def rms_norm(x: Tensor, module: Any) -> Tensor:
    scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
    weight: Tensor = module.weight
    return x * scale.to(x.dtype) * weight.to(x.dtype)


def layer_norm(x: Tensor, module: Any) -> Tensor:
    return functional.layer_norm(
        x.float(), (x.shape[-1],), module.weight, module.bias, module.eps
    ).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions; ``cos`` and ``sin`` broadcast to ``x``."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention of ``[B, heads, L, D]``, with an additive mask that broadcasts to ``[B, 1,
    Lq, Lk]``.
    """
    return attend_seen(query, key, value, mask)[0]


def attend_seen(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same, and the weights ``[B, heads, Lq, Lk]``.

    Written out because on CPUs the backward pass of the fused kernel is several times slower in
    bfloat16.
    """
    batch, heads, length, depth = query.shape
    scores = torch.bmm(
        (query * depth**-0.5).reshape(batch * heads, length, depth),
        key.reshape(batch * heads, -1, depth).transpose(1, 2),
    )
    if mask is not None:
        scores = (scores.view(batch, heads, length, -1) + mask).view(batch * heads, length, -1)
    weights = scores.softmax(-1)
    mixed = torch.bmm(weights, value.reshape(batch * heads, -1, depth))
    return mixed.view(batch, heads, length, depth), weights.view(batch, heads, length, -1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``[B, L, heads * D]`` to ``[B, heads, L, D]``."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
