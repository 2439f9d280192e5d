"""Ctrl-C once finishes the sample, twice stops at once. SIGTERM, which schedulers send, counts as Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stop:
    """Whether the work is to end.

    Args:
        orphaned_from: process id of the parent; when that is gone, the work is to end too. None does not look.
    """

    def __init__(self, orphaned_from: int | None = None) -> None:
        self._parent = orphaned_from
        self._signalled = self._answering = False

    @property
    def asked(self) -> bool:
        """Whether a signal came while samples were answered; whoever answers them looks at this before each batch."""
        return self._signalled or (self._parent is not None and os.getppid() != self._parent)

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
        """Inside, the first signal only sets :attr:`asked`; the block is to end soon then.

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
        if self._signalled or not self._answering:
            raise KeyboardInterrupt
        self._signalled = True
        print("finishing the sample; Ctrl-C again stops at once", file=sys.stderr)
