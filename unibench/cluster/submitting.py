"""Jobs through submitit: an array on SLURM, or processes of this machine that outlive the
command.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unibench.errors import UsageError

ENGINES = ("slurm", "ray", "local")
EXTRA = "python -m pip install 'unibench[cluster]', in a checkout: make cluster"


@dataclass(frozen=True)
class Resources:
    """What one worker asks for.

    Attributes:
        minutes: of time; a worker that has not finished by then queues again.
        partition: of SLURM.
        account: of SLURM.
        gpus: that the worker sees; several for a model that ``model.device_map`` spreads.
        cpus: for the worker.
        mem: GB.
        requeues: how often a worker may reach its limit of time and queue again.
        extra: any other options of sbatch.
    """

    minutes: int = 60
    partition: str | None = None
    account: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    mem: float | None = None
    requeues: int = 100
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def margin(self) -> int:
        """Seconds before the limit at which a worker is told to end with its sample."""
        return min(120, 12 * self.minutes)


def warning() -> signal.Signals:
    """The signal by which submitit announces the end of a job."""
    environment = submitit_().core.job_environment.JobEnvironment
    return signal.Signals[f"SIG{environment.USR_SIG}"]


def submit(
    task: Callable[..., Any],
    engine: str,
    count: int,
    resources: Resources,
    folder: Path,
    *,
    nodes: int | None = None,
) -> list[Any]:
    """Have ``task(number)`` run for each number below ``count``; returns at once.

    Args:
        task: can be pickled; queued again if it has a method ``checkpoint``.
        engine: slurm or local.
        count: of jobs.
        resources: of each.
        folder: that all nodes see, for the jobs' files and logs.
        nodes: runs one job as one process on each of so many nodes instead (one, if local).

    Returns:
        The jobs, of submitit.

    Raises:
        UsageError: there is no SLURM here, or it refuses.
    """
    submitit = submitit_()
    if engine == "slurm" and shutil.which("sbatch") is None:
        raise UsageError(
            "cluster=slurm: there is no sbatch on this machine; take a login node of the cluster,"
            " or cluster=local"
        )
    try:
        if engine == "slurm":
            executor = submitit.SlurmExecutor(folder, max_num_timeout=resources.requeues)
            executor.update_parameters(
                **_options(count, resources), **({"nodes": nodes} if nodes else {})
            )
            return list(executor.map_array(task, range(count)))
        executor = submitit.LocalExecutor(folder, max_num_timeout=resources.requeues)
        jobs, gpus = [], resources.gpus or 0
        for number in range(count):
            visible = list(range(number * gpus, (number + 1) * gpus))
            limits = {"timeout_min": resources.minutes, "signal_delay_s": resources.margin}
            executor.update_parameters(**limits, gpus_per_node=gpus, visible_gpus=visible)
            with _detached():
                jobs.append(executor.submit(task, number))
        return jobs
    except submitit.core.utils.FailedJobError as error:
        raise UsageError(f"sbatch refuses: {str(error).strip().splitlines()[-1]}") from None


@contextmanager
def _detached() -> Iterator[None]:
    """Processes started inside have none of this one's streams: who reads those to their end would
    wait for the job.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    null, before = os.open(os.devnull, os.O_RDWR), [os.dup(stream) for stream in range(3)]
    try:
        for stream in range(3):
            os.dup2(null, stream)
        yield
    finally:
        for stream, kept in enumerate(before):
            os.dup2(kept, stream)
            os.close(kept)
        os.close(null)


def submitit_() -> Any:
    """The package, which comes with an extra."""
    try:
        import submitit
    except ImportError:
        raise UsageError(f"submitit is not installed: {EXTRA}") from None
    return submitit


def _options(count: int, resources: Resources) -> dict[str, Any]:
    """In the words of sbatch."""
    given = {
        "job_name": "unibench",
        "time": resources.minutes,
        "signal_delay_s": resources.margin,
        "array_parallelism": count,
        "partition": resources.partition,
        "account": resources.account,
        "gpus_per_node": resources.gpus,
        "cpus_per_task": resources.cpus,
        "mem": None if resources.mem is None else f"{1024 * resources.mem:.0f}MB",
        "additional_parameters": dict(resources.extra) or None,
    }
    return {name: value for name, value in given.items() if value is not None}
