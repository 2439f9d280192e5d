"""What torch counts while a model runs, fused attention included."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

aten: Any = torch.ops.aten
FUSED = (  # torch's own formulas know neither the CPU's kernel nor grouped queries
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_cudnn_attention,
)


def _attention(query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> int:
    """Both products of attention, the square counted whole; arguments are shapes ``[batch, heads,
    tokens, head_dim]``.
    """
    batch, heads, rows, width = query
    return int(2 * batch * heads * rows * key[-2] * (width + value[-1]))


def _dot(left: Any, right: Any, *rest: Any, **more: Any) -> int:
    """Of two vectors, or of a matrix and a vector."""
    return 2 * int(math.prod(left))


def _added_dot(base: Any, left: Any, right: Any, *rest: Any, **more: Any) -> int:
    return 2 * int(math.prod(left))


def _added_outer(base: Any, left: Any, right: Any, *rest: Any, **more: Any) -> int:
    return 2 * int(math.prod(left) * math.prod(right))


PRODUCTS = {  # that torch's own counter leaves out
    **dict.fromkeys(FUSED, _attention),
    **dict.fromkeys((aten.dot, aten.vdot, aten.mv), _dot),
    **dict.fromkeys((aten.addmv, aten.addmv_), _added_dot),
    **dict.fromkeys((aten.addr, aten.addr_), _added_outer),
}


def flop_counter() -> FlopCounterMode:
    """A context that counts the FLOPs of products, by module; kernels from outside torch are not
    seen.
    """
    return FlopCounterMode(display=False, custom_mapping=PRODUCTS)


def flops_of(counter: FlopCounterMode, model: nn.Module, part: nn.Module) -> int:
    """What was counted inside one module of the model that ran."""
    # torch's counter names modules by the class at the top and the path below
    (name,) = (name for name, module in model.named_modules() if module is part)
    return sum(counter.get_flop_counts().get(f"{type(model).__name__}.{name}", {}).values())
