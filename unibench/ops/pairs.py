"""All rows against all rows: one matrix where it fits in memory, single rows on demand where it
does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unibench.ops.similarity import gram, unit
from unibench.ops.work import product

DENSE_BYTES = 2**31  # of a matrix that is held whole: about 23,000 tokens in float32
BLOCK = 128  # rows worked on at once: a block of a few thousand columns stays in the cache


@dataclass(frozen=True, eq=False)
class OnDemand:
    """Cosines (or one minus them) of all rows, computed row by row: ``O(ND)`` for a row instead of
    ``O(N^2)`` memory.

    Attributes:
        unit: ``[N, D]`` rows of length one.
        distance: whether values are ``1 - cos``.
    """

    unit: Tensor
    distance: bool

    def __len__(self) -> int:
        return len(self.unit)

    def rows(self, part: Tensor | slice) -> Tensor:
        """``[rows, N]`` of the matrix."""
        cosines = product(self.unit[part], self.unit.T)
        return 1 - cosines if self.distance else cosines


Pairs = Tensor | OnDemand


def cosine_pairs(x: Tensor, *, distance: bool = False) -> Pairs:
    """Cosine, or one minus it, of all rows of ``x [N, D]`` with each other.

    Returns:
        ``[N, N]``, or what computes its rows where that matrix would be larger than
        :data:`DENSE_BYTES`.
    """
    rows = unit(x)
    # decided by size alone, so that a run has the same bits whatever memory is free
    if len(x) ** 2 * rows.element_size() > DENSE_BYTES:
        return OnDemand(rows, distance)
    cosines = gram(rows)
    return cosines.neg_().add_(1) if distance else cosines


def rows_of(pairs: Pairs, index: Tensor) -> Tensor:
    """Rows ``index [n]``, as ``[n, N]``."""
    return pairs.rows(index) if isinstance(pairs, OnDemand) else pairs.index_select(0, index)


def blocks(pairs: Pairs) -> Iterator[tuple[int, Tensor]]:
    """First row and values ``[up to BLOCK, N]`` of one stretch of rows after the other."""
    for start in range(0, len(pairs), BLOCK):
        part = slice(start, start + BLOCK)
        yield start, pairs.rows(part) if isinstance(pairs, OnDemand) else pairs[part]


def reduced(pairs: Pairs, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """``[N]`` one number for each row, from ``reduce [n, N] -> [n]``."""
    return torch.cat([reduce(block) for _, block in blocks(pairs)])


def nearest(distance: Pairs) -> Tensor:
    """Distance of each row to the nearest other, ``[N]``; infinite for a row alone. Entries above
    the diagonal are read.
    """
    found: Tensor | None = None
    for start, block in blocks(distance):
        end = start + len(block)
        found = block.new_full((len(distance),), torch.inf) if found is None else found
        # a copy, since the diagonal is written to and the block is a view of the matrix
        own, later = block[:, start:end].clone(), block[:, end:]
        own.diagonal().fill_(torch.inf)
        found[start:end] = torch.minimum(found[start:end], own.amin(1))
        if end < len(distance):
            found[start:end] = torch.minimum(found[start:end], later.amin(1))
            found[end:] = torch.minimum(found[end:], later.amin(0))
    assert found is not None
    return found


def diagonal(pairs: Pairs) -> Tensor:
    """``[N]`` each row with itself."""
    if isinstance(pairs, Tensor):
        return pairs.diagonal()
    own = pairs.unit.square().sum(1)
    return 1 - own if pairs.distance else own
