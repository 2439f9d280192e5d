"""A place for kernels that run a whole greedy loop at once.

Empty unless :func:`installed` fills it. What a loop picks is defined by its plain form in
:mod:`unibench.ops.greedy`; a kernel gives the same picks or stands aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

Name = Literal["max_min", "farthest", "mmr", "rep_max", "determinantal"]
Kernel = Callable[..., Tensor | None]
"""Takes what the plain loop takes; None where it does not serve that."""

_NONE: Mapping[Name, Kernel] = MappingProxyType({})
_installed: ContextVar[Mapping[Name, Kernel]] = ContextVar("kernels", default=_NONE)


def at_once(name: Name, *given: Any) -> Tensor | None:
    """The picks of an installed kernel; None: take the plain loop."""
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
