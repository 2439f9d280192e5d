"""The time that a command may take."""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """A point in time.

    Args:
        seconds: from now on.
        now: the clock.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._end = now, now() + seconds

    @property
    def left(self) -> float:
        """Seconds until then; 0 afterwards."""
        return max(0.0, self._end - self._now())

    @property
    def over(self) -> bool:
        return self.left == 0

    def part(self, share: float) -> Deadline:
        """An earlier point, after a share of what is left."""
        return Deadline(self.left * share, self._now)
