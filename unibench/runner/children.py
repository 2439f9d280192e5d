"""The child process of an executor, which stays for the next cell that it can answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from unibench.harness import HarnessError, HarnessProcess
from unibench.identity import Cell


class StandingChild:
    """At most one child process."""

    def __init__(self) -> None:
        self._process: HarnessProcess | None = None
        self._name = ""

    def named(self, name: str, made: Callable[[], HarnessProcess]) -> HarnessProcess:
        """The child of a name, made where the last one was of another, which is ended."""
        if self._process is None or name != self._name:
            self.close()
            self._process, self._name = made(), name
        return self._process

    @contextmanager
    def at_work(self, cell: Cell) -> Iterator[None]:
        """Have the child answer a cell inside the block, and end one that leaves it in the middle
        of its job.

        Raises:
            HarnessError: the child failed or died; the message says that the answers are safe.
        """
        try:
            yield
        except HarnessError as error:
            raise HarnessError(
                f"{cell.title}: {error}. Every answered sample is safe and the same command"
                f" continues; the reason is in {cell.folder.absolute()}/run.log"
            ) from None
        finally:
            if self._process is not None and not self._process.idle:
                self.close()

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.close()
        self._process = None
