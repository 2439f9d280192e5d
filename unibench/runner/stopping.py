"""Ctrl-C once finishes the sample, twice stops at once. SIGTERM, which schedulers send, counts as
Ctrl-C; so does a wall of time.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)


class Stop:
    """Whether the work is to end.

    Args:
        orphaned_from: process id of the parent; when that is gone, the work is to end too. None
            does not look.
        seconds: from now on after which it is to end; None does not look.
        signals: that :meth:`listening` takes over.

    Attributes:
        received: the signal that came.
    """

    def __init__(
        self,
        orphaned_from: int | None = None,
        seconds: float | None = None,
        signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
    ) -> None:
        self._parent, self._signals = orphaned_from, signals
        self._until = None if seconds is None else time.monotonic() + seconds
        self._answering = False
        self.received: int | None = None

    @property
    def asked(self) -> bool:
        """Whether the work is to end; whoever answers samples looks at this before each batch."""
        if self.received is not None or (self._parent is not None and os.getppid() != self._parent):
            return True
        return self._until is not None and time.monotonic() > self._until

    def heed(self) -> None:
        """Between samples.

        Raises:
            KeyboardInterrupt: the work is to end.
        """
        if self.asked:
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over the signals; nothing where this is not the main thread, which alone may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {
            number: signal.signal(number, self._signal) for number in self._signals
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Inside, the first signal only sets :attr:`asked`; the block is to end soon then.

        Raises:
            KeyboardInterrupt: after the block, if a signal came.
        """
        self._answering = True
        try:
            yield
        finally:
            self._answering = False
        self.heed()

    def _signal(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, number
        if again or not self._answering:
            raise KeyboardInterrupt
        log.warning("finishing the sample; Ctrl-C again stops at once")
