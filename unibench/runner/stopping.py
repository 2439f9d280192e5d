"""Ctrl-C once finishes the sample, twice stops at once. SIGTERM, which schedulers send, counts as Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stop:
    """Whether the user wants the work to end.

    Attributes:
        asked: set by the first signal that comes while samples are answered; whoever answers them looks at it
            after each batch.
    """

    def __init__(self) -> None:
        self.asked = False
        self._answering = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over SIGINT and SIGTERM; nothing where this is not the main thread, which alone may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {number: signal.signal(number, self._signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Inside, the first signal only sets :attr:`asked`; the block must end soon then.

        Raises:
            KeyboardInterrupt: after the block, if a signal came.
        """
        self._answering = True
        try:
            yield
        finally:
            self._answering = False
        if self.asked:
            raise KeyboardInterrupt

    def _signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self._answering:
            raise KeyboardInterrupt
        self.asked = True
        print("finishing the sample; Ctrl-C again stops at once", file=sys.stderr)
