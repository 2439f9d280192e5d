"""How many prompts are read together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Generic, TypeVar

import torch

from unibench.models import LoadedModel

S = TypeVar("S")
MOST = 64  # prompts of a batch that finds its own size
AUTO = "auto"


class Batches(Generic[S]):
    """The samples in batches of a given size, or of the size that memory allows.

    With ``"auto"`` the first batch is one sample, each later one twice as large, until one does not
    fit; from then on half of what did not fit. The size is one on a CPU, which does not report a
    lack of memory, and for families that read the pictures of one prompt at a time.

    Args:
        samples: anything, in order.
        size: a number, or ``"auto"``.
        loaded: the model.
    """

    def __init__(self, samples: Iterator[S], size: int | str, loaded: LoadedModel) -> None:
        self._samples, self._waiting = samples, list[S]()
        self._own = self._growing = (
            # a CPU without memory kills the process instead of raising
            size == AUTO and loaded.device.type != "cpu" and loaded.family.batches
        )
        self._size = 1 if size == AUTO else int(size)

    def __iter__(self) -> Iterator[list[S]]:
        while batch := self._next():
            yield batch
            if self._growing:
                self._size = min(2 * self._size, MOST)

    def did_not_fit(self, batch: list[S], error: torch.OutOfMemoryError) -> None:
        """Take a batch back and go on with half as many.

        Raises:
            OutOfMemoryError: the size was given, or one sample is too much.
        """
        if not self._own or len(batch) == 1:
            raise error
        # in front, so that samples stay in order
        self._waiting = batch + self._waiting
        self._size, self._growing = len(batch) // 2, False
        # the allocator keeps blocks of the batch that failed, cut for its sizes
        torch.cuda.empty_cache()

    def _next(self) -> list[S]:
        taken, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
        # islice takes no more than it gives, so nothing is lost between batches
        return taken + list(islice(self._samples, self._size - len(taken)))
