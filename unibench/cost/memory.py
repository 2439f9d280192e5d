"""The most memory that tensors took at once."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass
class Peak:
    """Bytes of tensors above those that were held when the block began; known when it has ended."""

    extra: int = 0

    @property
    def mib(self) -> float:
        return self.extra / 2**20


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Watch the allocator for the length of the block.

    A GPU's allocator keeps count by itself. On a CPU torch's profiler lists every allocation,
    temporaries inside operations included, and slows it down: time it in another run.
    """
    peak = Peak()
    # tensors in cycles would be freed inside the block and hide what it takes
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.extra = torch.cuda.max_memory_allocated(device) - before
        return
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        yield peak
    assert watched.profiler is not None and watched.profiler.kineto_results is not None
    found: Any = watched.profiler.kineto_results.events()
    events = [event for event in found if event.name() == "[memory]"]
    held = 0
    # a running sum needs allocations and releases as they followed each other
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak.extra = max(peak.extra, held)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the profiler's C++ side writes to stderr at each start and stop; no option turns
    it off.
    """
    sys.stderr.flush()
    # the file descriptor, since C++ does not write through sys.stderr
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(
        words in str(error)
        for words in ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory")
    )
