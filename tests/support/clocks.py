"""A clock that no machine makes slow: tests of times say what a span holds, not how long it took."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from unibench.cost import Clock

TICK = 0.001


@dataclass
class Ticking:
    """Stands still but for a tick whenever it is read, and for who sleeps by it.

    Attributes:
        now: seconds since the test began.
    """

    now: float = 0.0

    def mark(self) -> float:
        self.now += TICK
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    """Every reported time is read off this clock."""
    clock = Ticking()
    monkeypatch.setattr(Clock, "mark", lambda _: clock.mark())
    return clock
