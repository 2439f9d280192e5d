"""The arithmetic of a selection, as far as it has to be asked for.

What selections compute in torch is counted where it runs (:mod:`unibench.cost.operations`); what
they compute outside of torch they say with :func:`did`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from unibench.cost.operations import Operations


@dataclass
class Work:
    """Floating point operations of a block, complete when it has ended.

    Attributes:
        products: of products, two for each multiply-add.
        others: of all else, and those that code outside of torch declared.
        uncounted: operators without a formula.
    """

    products: int = 0
    others: int = 0
    uncounted: tuple[str, ...] = ()

    @property
    def flops(self) -> int:
        """All operations."""
        return self.products + self.others

    @property
    def macs(self) -> float:
        """Multiply-adds of the products."""
        return self.products / 2


class _Open(threading.local):
    declared: tuple[list[int], ...] = ()


_open = _Open()


@contextmanager
def counted() -> Iterator[Work]:
    """Count what this thread computes for the length of the block, see
    :mod:`unibench.cost.operations`.

    >>> import torch
    >>> with counted() as work:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 5) + 1
    >>> work.macs, work.flops
    (30.0, 70)
    """
    work, declared = Work(), list[int]()
    _open.declared += (declared,)
    try:
        with Operations() as operations:
            yield work
    finally:
        _open.declared = tuple(tally for tally in _open.declared if tally is not declared)
    work.products = operations.products
    work.others = operations.others + sum(declared)
    unknown = operations.uncounted - ({"numpy"} if declared else set())
    work.uncounted = tuple(sorted(unknown))


def did(flops: int) -> None:
    """Say how many floating point operations were done outside of torch, for example in numpy;
    zero where there were comparisons alone.
    """
    for tally in _open.declared:
        tally.append(flops)


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``."""
    return a @ b
