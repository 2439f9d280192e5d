"""One live line where there is a terminal, a plain line now and then where there is none."""

from __future__ import annotations

import sys
import time

from unibench.errors import lines_shown
from unibench.identity import Cell
from unibench.inference.record import Record
from unibench.inference.row import Row

PLAIN_SECONDS = 15.0
WAIT_SECONDS = 300.0


class Progress:
    """A :class:`unibench.runner.Listener` that writes to stderr: rate, time left, running score,
    kept tokens.

    Args:
        worker: number of the process where there are several; they share the screen, so none has a
            live line.
        cells: of the command, of which ``ended`` are there already; 0 counts none.
    """

    def __init__(self, worker: int | None = None, *, cells: int = 0, ended: int = 0) -> None:
        self._live = worker is None and sys.stderr.isatty()
        self._prefix = "" if worker is None else f"[{worker}] "
        self._waited = 0.0
        self._title, self._total = "", 0
        self._done = self._scored = 0
        self._score = self._kept = self._tokens = 0.0
        self._start = self._shown = 0.0
        self._old = 0
        self._cells, self._ended, self._here = cells, ended, 0
        self._began = time.monotonic()
        self._key = ""  # of the cell that was begun and has not ended

    def begin(self, cell: Cell, done: int, total: int | None) -> None:
        number = f"[{self._ended + 1} of {self._cells}] " if self._cells else ""
        self._title = f"{self._prefix}{number}{cell.title}"
        self._total, self._old, self._key = total or 0, done, cell.key
        self._done = self._scored = 0
        self._score = self._kept = self._tokens = 0.0
        self._start = self._shown = time.monotonic()
        if not self._live:
            print(self._title + (f" ({done} samples are there)" if done else ""), file=sys.stderr)

    def step(self, record: Record) -> None:
        self._done += 1
        self._scored += record.score is not None
        self._score += record.score or 0.0
        self._kept += record.kept
        self._tokens += record.visual_tokens
        if self._done <= self._old:
            self._start = time.monotonic()
            return
        now = time.monotonic()
        if now - self._shown >= (0.1 if self._live else PLAIN_SECONDS):
            self._shown = now
            self._print(now)

    def end(self, row: Row) -> None:
        self._ended, self._here = self._ended + 1, self._here + 1
        # others may have answered it: the numbers here are those of the cell that was begun last
        if self._done and row.key == self._key:
            self._key = ""
            self._print(time.monotonic(), last=True)

    def failed(self, cell: Cell, error: str) -> None:
        self._ended += 1
        print(lines_shown(f"{self._prefix}{cell.title}: failed: {error}"), file=sys.stderr)

    def wait(self, cells: int, holder: str | None) -> None:
        now = time.monotonic()
        if holder is not None and (not self._waited or now - self._waited > WAIT_SECONDS):
            self._waited = now
            print(
                f"{self._prefix}waiting for {cells} cell{'s' if cells > 1 else ''} of other workers"
                f" ({holder})",
                file=sys.stderr,
            )

    def _print(self, now: float, *, last: bool = False) -> None:
        fresh = self._done - self._old
        rate = fresh / max(1e-9, now - self._start)
        left = (
            f", {clock((self._total - self._done) / rate)} left"
            if rate and self._total and not last
            else ""
        )
        of = f"/{self._total}" if self._total else ""
        score = (
            f", score {100 * self._score / self._scored:.1f}" if self._scored else ""
        )  # a harness scores at the end
        kept = f"kept {self._kept / self._done:.0f} of {self._tokens / self._done:.0f}"
        line = f"{self._title}: {self._done}{of}, {rate:.1f}/s{left}{score}, {kept}"
        if last and self._ended < self._cells:
            rest = (now - self._began) / self._here * (self._cells - self._ended)
            line += f"; all cells: about {clock(rest)} left"
        if self._live:
            print(f"\r\x1b[K{line}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """A duration in hours, minutes and seconds.

    >>> clock(5), clock(65), clock(3700)
    ('5s', '1m05s', '1h01m')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
