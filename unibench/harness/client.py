"""Starting a harness in a process of its own, handing it jobs and reading its events."""

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
from unibench.paths import PACKAGE
from unibench.store.files import appending

GRACE_SECONDS = 10.0


class HarnessError(UsageError):
    """The child died; what it had answered is safe."""


class HarnessProcess:
    """A child that holds one model and one harness, and answers cell after cell.

    Args:
        python: its interpreter.
        environment: variables to set beside the parent's own.
        module: what it runs.
        option: the key that names the interpreter, for messages.
        what: it is called, likewise.

    Attributes:
        idle: whether the child has reported the end of its last job, so that it can have another.
    """

    def __init__(
        self,
        python: str,
        environment: dict[str, str],
        module: str = "unibench.harness.child",
        option: str = "harness_options.python",
        what: str = "harness",
    ) -> None:
        self._python, self._environment = python, environment
        self._module, self._option, self._what = module, option, what
        self._process: subprocess.Popen[str] | None = None
        self.idle = True

    def take(self, job: Path, log: Path, last: str) -> Iterator[dict[str, Any]]:
        """Hand the child a job, and start it if it does not run; gives its events up to the one
        named ``last``.

        Args:
            job: file to read.
            log: for what the child prints before it has a place of its own.
            last: name of an event.

        Raises:
            UsageError: the interpreter cannot be started. While the events are read: the child says
                that the user can mend it.
            HarnessError: while they are read: it failed or died.
        """
        self.idle = False
        # a child that runs has its harness imported and its model loaded
        if self._process is not None and self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{job}\n")
            self._process.stdin.flush()
            return self._events(self._process, last)
        # another interpreter finds this checkout, not a version that is installed there
        paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **self._environment}
        with appending(log) as stderr:
            try:
                self._process = subprocess.Popen(
                    [self._python, "-m", self._module, str(job)],
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
                    f"{self._option}={self._python} cannot be started: {error.strerror}"
                ) from None
        # a child in a session of its own would outlive a parent that ends by an error
        atexit.register(self.close)
        return self._events(self._process, last)

    def close(self) -> None:
        """End the child and whatever it started."""
        atexit.unregister(self.close)
        process, self._process = self._process, None
        if process is None:
            return
        # the whole group: harnesses start workers, and the second signal is for those that stay
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, ending)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _events(self, process: subprocess.Popen[str], last: str) -> Iterator[dict[str, Any]]:
        assert process.stdout is not None
        for line in process.stdout:
            # only events arrive here, since the child has moved its standard output
            event: dict[str, Any] = json.loads(line)
            # after a refusal or a failure the child waits for its next job
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
        raise HarnessError(f"the {self._what}'s process {_death(process.returncode)}")


def interpreter(given: str | None) -> str:
    """The interpreter that ``harness_options.python`` names."""
    return given or sys.executable


def _death(code: int) -> str:
    if code < 0:
        hint = ", as the system does when memory is short" if -code == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}"
    return f"ended with code {code}"
