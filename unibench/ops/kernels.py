"""A place for other ways to compute what a function of this package defines: one kernel for a whole
loop, or one pass that keeps less in memory.

Empty unless :func:`installed` fills it. What is computed is defined by the plain form; a kernel
gives the same (picks bit for bit, scores to rounding) or stands aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

Name = Literal["max_min", "farthest", "mmr", "rep_max", "determinantal", "received"]
Kernel = Callable[..., Tensor | None]
"""Takes what the plain form takes; None where it does not serve that."""

_NONE: Mapping[Name, Kernel] = MappingProxyType({})
_installed: ContextVar[Mapping[Name, Kernel]] = ContextVar("kernels", default=_NONE)


def at_once(name: Name, *given: Any) -> Tensor | None:
    """What an installed kernel makes of some input; None: take the plain form."""
    kernel = _installed.get().get(name)
    return None if kernel is None else kernel(*given)


@contextmanager
def installed(kernels: Mapping[Name, Kernel]) -> Iterator[None]:
    """These kernels, and those that were there already, serve for the length of the block."""
    token = _installed.set({**_installed.get(), **kernels})
    try:
        yield
    finally:
        _installed.reset(token)
