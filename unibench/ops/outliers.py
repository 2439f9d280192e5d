"""Values that stand out."""

from __future__ import annotations

import torch
from torch import Tensor

from unibench.ops.similarity import at_least_float32


def outliers(x: Tensor, factor: float = 1.5) -> Tensor:
    """``[N]`` True above ``Q3 + factor * (Q3 - Q1)``, quartiles by linear interpolation.

    >>> outliers(torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0, 50.0]))
    tensor([False, False, False, False, False,  True])
    """
    x = at_least_float32(x)
    low, high = torch.quantile(x, x.new_tensor([0.25, 0.75]))
    above: Tensor = x > high + factor * (high - low)
    return above
