"""``submit``: workers on a cluster; and the sweeps that a Hydra launcher runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from unibench.cli.options import taken
from unibench.cli.progress import Progress
from unibench.cli.running import SWEEP, cells_of, check_methods, finish, say_which_task
from unibench.cli.working import expiry_of
from unibench.compose import is_experiment
from unibench.device import AUTO
from unibench.errors import UsageError, unknown
from unibench.identity import Cell, cell_of
from unibench.plan import survey

RESOURCES: dict[str, Callable[[str], Any]] = {
    "--minutes": int, "--partition": str, "--account": str, "--gpus": int, "--cpus": int, "--mem": float, "--requeues": int,
    "--extra": lambda text: dict(pair.split("=", 1) for pair in text.split(",")),
}  # fmt: skip
HYDRA = "hydra"  # how the overrides of its own configuration begin


def submit(words: list[str]) -> int:
    """``submit [-m] <overrides> cluster=slurm|ray|local [--workers N] ...``: prints the job and
    returns; Ray is waited for.
    """
    words, options = taken(
        words,
        flags=("--retry",),
        values={"--workers": int, "--expiry": float, "--address": str, **RESOURCES},
    )
    words, engine = engine_of(words)
    count = options.get("--workers", 1)
    if count < 1 or options.get("--minutes", 1) < 1:
        raise UsageError("--workers and --minutes: at least 1")
    asked = cells_of(words)
    cells = on_nodes(asked, engine, options)
    if (unknown_key := next((cell for cell in cells if not cell.final), None)) is not None:
        raise UsageError(
            f"{unknown_key.title}: the checkpoint is not on this disk, and the key of the cell is"
            f" known only then: python -m unibench prefetch {' '.join(words)}"
        )
    say_which_task(words)
    runner = check_methods(cells, strict=not is_experiment(words))
    cluster = importlib.import_module("unibench.cluster")
    if "--retry" in options:
        runner.forgive(cells)
    plans = survey(cells)
    left = sum(plan.state in ("partial", "missing") for plan in plans)
    if not left:
        print("nothing is left to do", file=sys.stderr)
        return finish(runner.outcome_of(cells))
    resources = resources_of(options)
    if engine == "local":
        _check_gpus(count, resources.gpus)
    worker = cluster.Worker(
        cluster.write_plan([plan.cell for plan in plans], words), Progress, expiry_of(options)
    )
    print(f"{left} of {len(plans)} cells to do: {worker.folder / cluster.PLAN}")
    if engine == "ray":
        return _on_ray(
            cluster, worker, count, resources, options, lambda: finish(runner.outcome_of(cells))
        )
    jobs = cluster.submit(
        replace(worker, warning=cluster.warning()), engine, count, resources, worker.folder
    )
    numbers = dict.fromkeys(str(job.job_id).partition("_")[0] for job in jobs)
    print(
        f"job {', '.join(numbers)}: {count} workers on {engine}, what they say:"
        f" {worker.folder}/*.err"
    )
    elsewhere = "" if cells == asked else " model.device=cuda"
    print(f"how far it is: python -m unibench plan {' '.join(words)}{elsewhere}")
    return 0


def on_nodes(cells: Sequence[Cell], engine: str, options: Mapping[str, Any]) -> list[Cell]:
    """The cells as the nodes of a cluster will have them: a worker that gets a GPU runs on it,
    which ``model.device=auto`` would not say on a login node without one.
    """
    if engine == "local" or not options.get("--gpus"):
        return list(cells)
    there = []
    for cell in cells:
        model = cell.config.model
        if model.device == AUTO:
            cell = cell_of(replace(cell.config, model=replace(model, device="cuda")))
        there.append(cell)
    return there


def _check_gpus(count: int, gpus: int | None) -> None:
    """A worker without GPUs would quietly work on the processor.

    Raises:
        UsageError: there are GPUs and nothing is said about them, or there are not enough.
    """
    there = importlib.import_module("torch").cuda.device_count()
    if gpus is None and there:
        raise UsageError(
            f"cluster=local: give --gpus, how many of the {there} GPUs each worker gets (0: none)"
        )
    if count * (gpus or 0) > there:
        raise UsageError(
            f"cluster=local: {count} workers with --gpus {gpus} want {count * (gpus or 0)} GPUs,"
            f" there are {there}"
        )


def engine_of(words: Sequence[str]) -> tuple[list[str], str]:
    """The words without ``cluster=``, and what it names.

    Raises:
        UsageError: it is not given, or there is no such engine.
    """
    engines = importlib.import_module("unibench.cluster").ENGINES
    given = [word.partition("=")[2] for word in words if word.startswith("cluster=")]
    if not given:
        raise UsageError(f"where? Give cluster={'|'.join(engines)}")
    if given[-1] not in engines:
        raise unknown("cluster", given[-1], engines)
    return [word for word in words if not word.startswith("cluster=")], given[-1]


def resources_of(options: dict[str, Any]) -> Any:
    """What a worker asks for, from the options of a command."""
    resources = importlib.import_module("unibench.cluster").Resources
    return resources(
        **{
            field.name: options[f"--{field.name}"]
            for field in fields(resources)
            if f"--{field.name}" in options
        }
    )


def launched(words: Sequence[str]) -> int:
    """``-m <overrides> hydra/launcher=joblib|submitit_local|submitit_slurm``: a job for each cell,
    waited for.
    """
    own, rest = (
        [word for word in words if word.startswith(HYDRA)],
        [word for word in words if not word.startswith(HYDRA)],
    )
    if not {*SWEEP} & {*rest} and not is_experiment(rest):
        raise UsageError(f"{own[0]} is of a sweep: add -m")
    cells = cells_of(rest)
    say_which_task(rest)
    runner = check_methods(cells, strict=not is_experiment(rest))
    cluster = importlib.import_module("unibench.cluster")
    runner.forgive(cells)
    plans = survey(cells)
    places = [place for place, plan in enumerate(plans) if plan.state in ("partial", "missing")]
    if places:
        worker = cluster.Worker(cluster.write_plan([plan.cell for plan in plans], words), Progress)
        if any("submitit" in word for word in own):
            worker = replace(worker, warning=cluster.warning())
        for line in cluster.launch(worker, places, own):
            print(f"a job failed: {line}", file=sys.stderr)
    return finish(runner.outcome_of(cells))


def _on_ray(
    cluster: Any,
    worker: Any,
    count: int,
    resources: Any,
    options: dict[str, Any],
    end: Callable[[], int],
) -> int:
    if "--minutes" in options:
        worker = replace(worker, seconds=60 * resources.minutes - resources.margin)
    for number, said in cluster.run_tasks(
        worker, count, resources, options.get("--address", "auto")
    ):
        print(f"worker {number}: {said}", file=sys.stderr)
    return end()
