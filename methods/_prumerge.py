"""What prumerge and prumerge_plus share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unibench import StageContext
from unibench.ops import pairs

Mode = Literal["fixed", "adaptive"]


def cls_attention(ctx: StageContext) -> Tensor:
    """Attention of CLS in the last vision block, all heads joined into one; without CLS, attention
    received.
    """
    assert ctx.vision is not None and ctx.family is not None
    if ctx.family.prefix_tokens:
        return ctx.vision.cls(-1, one_head=True)
    ctx.note("received attention (no CLS token)")
    return ctx.vision.received(-1)


def gathered(weights: Tensor, rest: Tensor) -> Tensor:
    """Pairs of a row and a token that it gathered.

    Args:
        weights: ``[rows, N]``.
        rest: tokens of one more row behind these, if there are any.
    """
    tokens = torch.arange(weights.shape[1], device=weights.device)
    last = torch.stack([torch.full_like(rest, len(weights)), rest])
    return torch.cat([pairs(weights, tokens), last], 1)
