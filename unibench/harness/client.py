"""The parent's end of a harness's process."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unibench.errors import UsageError
from unibench.harness.job import write_job
from unibench.identity import Cell
from unibench.registry import ROOT
from unibench.store.files import appending

GRACE_SECONDS = 10.0


class HarnessError(UsageError):
    """The child died; what it had answered is safe."""


class HarnessProcess:
    """A child that holds one model and one harness, and answers cell after cell.

    Args:
        python: its interpreter.
        environment: variables to set beside the parent's own.

    Attributes:
        idle: whether the last job came to an end that the child itself told, so that it can have
            another.
    """

    def __init__(self, python: str, environment: dict[str, str]) -> None:
        self._python, self._environment = python, environment
        self._process: subprocess.Popen[str] | None = None
        self.idle = True

    def run(self, cell: Cell) -> Iterator[dict[str, Any]]:
        """Answer a cell; yields the child's events, the last one its ``result``.

        Raises:
            UsageError: the child says that the user can mend it.
            HarnessError: it failed or died.
        """
        folder = cell.folder.absolute()
        write_job([cell], folder / "job.json")
        try:
            yield from self.events(folder / "job.json", folder / "run.log", "result")
        except HarnessError as error:
            raise HarnessError(
                f"{cell.title}: {error}. Every answered sample is safe and the same command"
                f" continues; the reason is in {folder}/run.log"
            ) from None

    def events(self, job: Path, log: Path, last: str) -> Iterator[dict[str, Any]]:
        """Hand the child a job; yields its events up to the one named ``last``.

        Args:
            job: file to read.
            log: for what the child prints before it has a place of its own.
            last: name of an event.

        Raises:
            UsageError, HarnessError: as :meth:`run`.
        """
        self.idle = False
        process = self._started(job, log)
        assert process.stdout is not None
        for line in process.stdout:
            event: dict[str, Any] = json.loads(line)
            self.idle = event["event"] in (last, "refused", "failed")
            if event["event"] == "refused":
                raise UsageError(event["message"])
            if event["event"] == "failed":
                raise HarnessError(event["message"])
            yield event
            if event["event"] == last:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)  # for its own exit code, before it is ended
        self.close()
        raise HarnessError(f"the harness's process {_death(process.returncode)}")

    def close(self) -> None:
        """End the child and whatever it started."""
        atexit.unregister(self.close)
        process, self._process = self._process, None
        if process is None:
            return
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, ending)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _started(self, job: Path, log: Path) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{job}\n")
            self._process.stdin.flush()
            return self._process
        paths = [str(ROOT.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **self._environment}
        with appending(log) as stderr:
            try:
                self._process = subprocess.Popen(
                    [self._python, "-m", "unibench.harness.child", str(job)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=environment,
                    text=True,
                    # Ctrl-C reaches the parent alone, which then ends the child
                    start_new_session=True,
                )
            except OSError as error:
                raise UsageError(
                    f"harness_options.python={self._python} cannot be started: {error.strerror}"
                ) from None
        atexit.register(self.close)
        return self._process


def interpreter(given: str | None) -> str:
    """The interpreter that ``harness_options.python`` names."""
    return given or sys.executable


def _death(code: int) -> str:
    if code < 0:
        hint = ", as the system does when memory is short" if -code == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}"
    return f"ended with code {code}"
