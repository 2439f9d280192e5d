"""Cosine similarity of rows."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


def unit(x: Tensor) -> Tensor:
    """Rows of ``x`` ``[N, D]`` scaled to length one, in float32 (float64 stays); zero rows stay zero."""
    return normalize(x if x.dtype.itemsize > 4 else x.float(), dim=-1)


def cosine_distance(x: Tensor) -> Tensor:
    """``1 - cos`` between all rows of ``x`` ``[N, D]``, as ``[N, N]``."""
    u = unit(x)
    return 1 - u @ u.T
