"""The arithmetic of a selection, from the shapes of the products that it computed.

Multiply-adds of products count, as they do for the model; norms, softmax, sorting and comparisons
do not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Work:
    """A tally of multiply-adds."""

    macs: int = 0

    def take(self) -> int:
        """The tally since the last take."""
        taken, self.macs = self.macs, 0
        return taken


class _Open(threading.local):
    tallies: tuple[Work, ...] = ()


_open = _Open()


@contextmanager
def counted() -> Iterator[Work]:
    """Count the products of this thread for the length of the block.

    >>> import torch
    >>> with counted() as work:
    ...     _ = product(torch.ones(2, 3), torch.ones(3, 5))
    >>> work.macs
    30
    """
    work = Work()
    _open.tallies += (work,)
    try:
        yield work
    finally:
        _open.tallies = tuple(tally for tally in _open.tallies if tally is not work)


def did(macs: int) -> None:
    """Add to every open tally."""
    for tally in _open.tallies:
        tally.macs += macs


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``, counted."""
    found = a @ b
    did(found.numel() * a.shape[-1])
    return found
