"""One clock for both kinds of device."""

from __future__ import annotations

import time

import torch

Mark = float | torch.cuda.Event


class Clock:
    """Marks on the device's own time line: CUDA events on a GPU, ``perf_counter`` elsewhere.

    Marking a GPU does not wait for it; only :meth:`seconds` does.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> Mark:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        # without a stream torch records on the current device's, which may be another
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, start: Mark, end: Mark) -> float:
        """Seconds between two marks; waits for a GPU to reach the later one."""
        if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
            end.synchronize()
            return float(start.elapsed_time(end)) / 1000
        assert isinstance(start, float) and isinstance(end, float)
        return end - start
