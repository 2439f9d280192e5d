"""Principal components, the same on every run."""

from __future__ import annotations

import torch
from torch import Tensor

from unibench.ops.similarity import gram
from unibench.ops.work import product

EXACT = (
    1024  # rows, up to which all eigenvectors are computed: beyond, they cost many Gram matrices
)
SPARE = 32  # vectors iterated beyond those wanted: their values set how fast the wanted ones settle
# of the polynomial that each pass applies; a higher one drowns small components in large ones
DEGREE = 4
PASSES = 5
# share of the largest value below which a component is rounding of the features
NOISE = {torch.float64: 1e-12, torch.float32: 1e-6}


def components(x: Tensor, count: int) -> Tensor:
    """The first left singular vectors of ``x [N, D]``, ``[N, count]``, by falling singular value.

    Vectors of rounding noise, where ``x`` has a smaller rank, are zero. Signs are arbitrary. Up to
    :data:`EXACT` rows all eigenvectors of ``x x^T`` are computed in float64; beyond, those wanted
    are found in float32 by subspace iteration with Chebyshev polynomials from a fixed start, which
    agrees with them as far as the values behind them have fallen off.

    Args:
        x: of any scale; not centred here.
        count: at most N.

    >>> components(torch.tensor([[3.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), 2).abs().round(decimals=3)
    tensor([[0.7070, 0.0000],
            [0.0000, 1.0000],
            [0.7070, 0.0000]])
    """
    if len(x) <= EXACT:
        wide = x.double()
        values, vectors = torch.linalg.eigh(product(wide, wide.T))
    else:
        values, vectors = _iterated(gram(x.float()), count)
    values, vectors = values[-count:].flip(0), vectors[:, -count:].flip(1)
    real = values > NOISE[values.dtype] * values[:1].clamp_min(torch.finfo(values.dtype).tiny)
    found: Tensor = vectors * real
    return found.to(x.dtype if x.dtype == torch.float64 else torch.float32)


def _iterated(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The greatest eigenvalues of a symmetric matrix without negative ones, rising, with their
    vectors.
    """
    width = min(len(matrix), count + SPARE)
    start = torch.randn(len(matrix), width, generator=torch.Generator().manual_seed(0))
    values, vectors = _in_subspace(matrix, product(matrix, start.to(matrix)))
    tiny = torch.finfo(matrix.dtype).tiny
    for _ in range(PASSES):
        # the polynomial is small on [0, end] and grows fast above it
        end = torch.maximum(values[0], NOISE[matrix.dtype] * values[-1]).clamp_min(tiny)
        before, now = vectors, product(matrix, vectors) * (2 / end) - vectors
        for _ in range(DEGREE - 1):
            before, now = now, (product(matrix, now) * (2 / end) - now) * 2 - before
            scale = now.norm(dim=0, keepdim=True).clamp_min(tiny)
            before, now = before / scale, now / scale
        values, vectors = _in_subspace(matrix, now)
    return values, vectors


def _in_subspace(matrix: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors of a matrix as far as the columns given span them."""
    # columns lean towards the greatest component with every pass, and must be parted again
    basis = torch.linalg.qr(rows).Q
    values, inside = torch.linalg.eigh(product(basis.T, product(matrix, basis)))
    return values, product(basis, inside)
