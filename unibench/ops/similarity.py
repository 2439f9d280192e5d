"""Cosine similarity of rows, and the scales that scores are brought to."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unibench.ops.work import product

# rows of a Gram matrix multiplied at once: narrower strips save little more and multiply slower
STRIP = 512


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, of any shape, in float32; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Tensor) -> Tensor:
    """Rows of ``x`` ``[N, D]`` scaled to length one, in float32 (float64 stays); zero rows stay
    zero.
    """
    return normalize(at_least_float32(x), dim=-1)


def gram(x: Tensor) -> Tensor:
    """``x @ x.T``, ``[N, N]`` for ``x [N, D]``, symmetric bit for bit on every machine.

    The upper triangle is computed and mirrored. A CPU multiplies in strips, so that most of the
    lower triangle is never computed.
    """
    if x.device.type != "cpu" or len(x) <= STRIP:
        return _mirrored(product(x, x.T))
    found = x.new_empty(len(x), len(x))
    for start in range(0, len(x), STRIP):
        end = start + STRIP
        found[start:end, start:] = product(x[start:end], x[start:].T)
        found[start:end, start:end] = _mirrored(found[start:end, start:end])
        found[end:, start:end] = found[start:end, end:].T
    return found


def _mirrored(square: Tensor) -> Tensor:
    """``[n, n]`` with the upper triangle below the diagonal too.

    On some processors (AVX2 only, for one) the two triangles of a product differ in the last bit.
    """
    return square.triu() + square.triu(1).T


def cosine(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Cosine of all rows of ``x`` ``[N, D]`` with all rows of ``y`` ``[M, D]`` (default ``x``),
    ``[N, M]``.
    """
    return gram(unit(x)) if y is None else product(unit(x), unit(y).T)


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    """Distance of all rows of ``x`` ``[N, D]`` and ``y`` ``[M, D]``, ``[N, M]``; inside in float64,
    where a matrix product is exact enough.

    >>> euclidean(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[5.]])
    """
    a, b = x.double(), y.double()
    squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * product(a, b.T)
    return squared.clamp_min(0).sqrt().to(at_least_float32(x).dtype)


def min_max(x: Tensor, eps: float = 0.0) -> Tensor:
    """``(x - min) / (max - min + eps)``; a constant vector becomes zero.

    >>> min_max(torch.tensor([2.0, 4.0, 3.0])), min_max(torch.ones(2))
    (tensor([0.0000, 1.0000, 0.5000]), tensor([0., 0.]))
    """
    low, high = x.aminmax()
    return (x - low) / torch.where(high > low, high - low + eps, torch.ones_like(high))
