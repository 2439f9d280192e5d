"""``submit``: workers on a cluster."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace

from unibench import cluster
from unibench.cli.grid import Grid
from unibench.cli.parser import Options
from unibench.cli.progress import Progress
from unibench.cluster import Resources, Worker
from unibench.device import AUTO
from unibench.errors import UsageError
from unibench.identity import Cell, cell_of
from unibench.plan import survey
from unibench.runner import forgive, outcome_of
from unibench.store.claim import EXPIRY_SECONDS


def submit(options: Options) -> int:
    """``submit [-m] <overrides> cluster=slurm|ray|local [--workers N] ...``: prints the job and
    returns; Ray is waited for.
    """
    engine, grid = engine_of(options), Grid(options)
    cells = on_nodes(grid.cells, engine, options.gpus)
    _check_keys(cells, grid.command)
    grid.announce()
    if options.retry:
        forgive(cells)
    plans = survey(cells)
    left = sum(plan.state in ("partial", "missing") for plan in plans)
    if not left:
        stopped = Counter(plan.state for plan in plans if plan.state in ("blocked", "failed"))
        said = " and ".join(f"{count} {state}" for state, count in stopped.items())
        least = f"nothing can be submitted: {said} of {len(plans)} cells"
        print(least if said else "nothing is left to do", file=sys.stderr)
        return grid.show(outcome_of(cells))
    resources = resources_of(options)
    if engine == "local":
        _check_gpus(options.workers, resources.gpus)
    folder = cluster.write_plan([plan.cell for plan in plans], grid.command)
    worker = Worker(folder, Progress, options.expiry or EXPIRY_SECONDS)
    print(f"{left} of {len(plans)} cells to do: {folder / cluster.PLAN}")
    if engine == "ray":
        _run_on_ray(worker, options, resources)
        return grid.show(outcome_of(cells))
    worker = replace(worker, warning=cluster.warning())
    jobs = cluster.submit(worker, engine, options.workers, resources, folder)
    numbers = ", ".join(dict.fromkeys(str(job.job_id).partition("_")[0] for job in jobs))
    print(f"job {numbers}: {options.workers} workers on {engine}, their output: {folder}/*.err")
    elsewhere = "" if cells == grid.cells else " model.device=cuda"
    print(f"how far it is: python -m unibench plan {' '.join(grid.command)}{elsewhere}")
    return 0


def on_nodes(cells: Sequence[Cell], engine: str, gpus: int | None) -> list[Cell]:
    """The cells as the nodes of a cluster will have them: a worker that gets a GPU runs on it,
    which ``model.device=auto`` would not say on a login node without one.
    """
    if engine == "local" or not gpus:
        return list(cells)
    there = []
    for cell in cells:
        model = cell.config.model
        if model.device == AUTO:
            cell = cell_of(replace(cell.config, model=replace(model, device="cuda")))
        there.append(cell)
    return there


def _check_keys(cells: Sequence[Cell], command: Sequence[str]) -> None:
    """Refuse cells whose key is known only once their checkpoint is on this disk.

    Raises:
        UsageError: with the command that fetches it.
    """
    for cell in cells:
        if not cell.final:
            raise UsageError(
                f"{cell.title}: the checkpoint is not on this disk, and the key of the cell is"
                f" known only then: python -m unibench prefetch {' '.join(command)}"
            )


def engine_of(options: Options) -> str:
    """What ``cluster=`` names.

    Raises:
        UsageError: it is not given.
    """
    if options.cluster is None and not options.mistakes:
        raise UsageError(f"where? Give cluster={'|'.join(cluster.ENGINES)}")
    return str(options.cluster)


def resources_of(options: Options) -> Resources:
    """What a worker asks for; the defaults where the command says nothing."""
    given = {field.name: getattr(options, field.name) for field in fields(Resources)}
    return Resources(**{name: value for name, value in given.items() if value is not None})


def _check_gpus(workers: int, gpus: int | None) -> None:
    """A worker without GPUs would quietly work on the processor.

    Raises:
        UsageError: there are GPUs and nothing is said about them, or there are not enough.
    """
    import torch

    there = torch.cuda.device_count()
    if gpus is None and there:
        raise UsageError(
            f"cluster=local: give --gpus, how many of the {there} GPUs each worker gets (0: none)"
        )
    if workers * (gpus or 0) > there:
        raise UsageError(
            f"cluster=local: {workers} workers with --gpus {gpus} want {workers * (gpus or 0)}"
            f" GPUs, there are {there}"
        )


def _run_on_ray(worker: Worker, options: Options, resources: Resources) -> None:
    if options.minutes is not None:
        worker = replace(worker, seconds=60 * resources.minutes - resources.margin)
    for number, said in cluster.run_tasks(worker, options.workers, resources, options.address):
        print(f"worker {number}: {said}", file=sys.stderr)
