"""Random numbers that a method draws from a global source depend on run and sample alone.

A method draws from its context's generator. One that draws from torch, numpy or Python as a whole
would choose otherwise in every run, and with the order of the samples; and what it draws would be
missing elsewhere.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_of(tensor: Tensor, run: int = 0) -> int:
    """A seed from what a tensor holds and the run's own: the same in any batch."""
    state = hashlib.blake2b(f"{run}".encode(), digest_size=8)
    state.update(tensor.detach().float().cpu().contiguous().view(torch.uint8).numpy().data)
    return int.from_bytes(state.digest(), "big") >> 1


class GlobalDraws:
    """Seeds the global sources while a method is asked that draws from them.

    Looking whether it does costs as much as a small selection, so it is looked at the first time
    that a method is asked for each shape; once seen, the sources are seeded every time.

    Args:
        device: of the model.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._seen = device, False

    @contextmanager
    def seeded(self, seed: Callable[[], int], *, look: bool) -> Iterator[None]:
        """The sources are seeded, if need be, for the length of the block, and then as before.

        Args:
            seed: of this question.
            look: whether it is not known yet if the method draws.
        """
        if not (look or self._seen):
            yield
            return
        # the user's own sequence of random numbers goes on as if nothing had been drawn
        before = self._states()
        self._seed(seed())
        start = self._states()
        try:
            yield
            # a source that moved was drawn from
            self._seen |= not _equal(start, self._states())
        finally:
            self._restore(before)

    def _states(self) -> list[Any]:
        states = [random.getstate(), np.random.get_state(), torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states

    def _seed(self, seed: int) -> None:
        random.seed(seed)
        # numpy's old interface takes 32 bits
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        if self._device.type == "cuda":
            with torch.cuda.device(self._device):
                torch.cuda.manual_seed(seed)

    def _restore(self, states: list[Any]) -> None:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states[3], self._device)


def _equal(first: list[Any], second: list[Any]) -> bool:
    (python, numbers, *tensors), (other, others, *more) = first, second
    return (
        python == other
        and all(np.array_equal(one, two) for one, two in zip(numbers, others, strict=True))
        and all(torch.equal(one, two) for one, two in zip(tensors, more, strict=True))
    )
