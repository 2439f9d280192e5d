"""One worker of a submission, on whatever machine an engine starts it.

The runner, and torch with it, is imported in the call: submitit answers signals only once it has
unpickled the worker, and one that comes before kills the process.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unibench.cluster.plan import read_plan
from unibench.store.claim import EXPIRY_SECONDS

if TYPE_CHECKING:
    from unibench.runner import Listener, Outcome


@dataclass(frozen=True)
class Worker:
    """Works off the cells of a plan beside any number of its like; engines carry it to a node by
    pickling.

    Attributes:
        folder: of the submission, see :func:`unibench.cluster.write_plan`.
        listener: makes the listener from the worker's number; can be pickled.
        expiry: see :func:`unibench.runner.work`.
        seconds: after which it ends at the next sample; for engines without a limit of their own.
        warning: the signal by which submitit says that the job's time is nearly up or that it is
            preempted. The worker ends at the next sample, and then lets submitit have the signal,
            which queues the job again.
    """

    folder: Path
    listener: Callable[[int], Listener]
    expiry: float = EXPIRY_SECONDS
    seconds: float | None = None
    warning: signal.Signals | None = None

    def __call__(self, number: int, only: int | None = None) -> str:
        """Work until nothing is left; says in a sentence what became of it.

        Args:
            number: of the worker.
            only: place in the plan of the one cell to do; None does all.

        Raises:
            UsageError: this node cannot read the plan, or makes other cells of it.
        """
        logging.getLogger("unibench").setLevel(logging.INFO)
        cells = read_plan(self.folder)
        if only is not None:
            cells = [cells[only]]
        runner = importlib.import_module("unibench.runner")
        stop = runner.Stop(
            seconds=self.seconds,
            signals=[signal.SIGINT, signal.SIGTERM, *filter(None, [self.warning])],
        )
        try:
            with stop.listening():
                outcome = runner.work(
                    cells, listener=self.listener(number), stop=stop, expiry=self.expiry
                )
        except KeyboardInterrupt:
            if self.warning is not None and stop.received == self.warning:
                os.kill(
                    os.getpid(), self.warning
                )  # to submitit's own handler, which has the signal again
            return "stopped before the end; every answered sample is kept"
        return _sentence(outcome)

    def checkpoint(self, *arguments: Any, **options: Any) -> Any:
        """What submitit is to run when the job is started again: the same, since all that was done
        lies in the cells.
        """
        from submitit.helpers import DelayedSubmission  # an extra

        return DelayedSubmission(self, *arguments, **options)


def _sentence(outcome: Outcome) -> str:
    failed = "".join(f"; {failure.cell.title}: {failure.error}" for failure in outcome.failures)
    return f"{len(outcome.rows)} cells are done, {len(outcome.failures)} failed{failed}"
