"""What prumerge and prumerge_plus share."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from unibench import StageContext

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
