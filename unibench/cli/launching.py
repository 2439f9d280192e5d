"""Sweeps that a Hydra launcher runs: a job for each cell, waited for."""

from __future__ import annotations

import sys
from dataclasses import replace

from unibench import cluster
from unibench.cli.grid import Grid
from unibench.cli.parser import Options
from unibench.cli.progress import Progress
from unibench.compose import is_experiment
from unibench.errors import UsageError
from unibench.runner import outcome_of


def launch(options: Options) -> int:
    """``-m <overrides> hydra/launcher=joblib|submitit_local|submitit_slurm``."""
    hydra = [word for word in options.words if word.startswith("hydra")]
    if not options.multirun and not is_experiment(options.words):
        raise UsageError(f"{hydra[0]} belongs to a sweep: add -m")
    grid = Grid(options)
    cells = grid.cells
    grid.announce()
    grid.retry()
    plans = grid.plans
    places = [place for place, plan in enumerate(plans) if plan.state in ("partial", "missing")]
    if places:
        folder = cluster.write_plan([plan.cell for plan in plans], [*grid.command, *hydra])
        worker = cluster.Worker(folder, Progress)
        if any("submitit" in word for word in hydra):
            worker = replace(worker, warning=cluster.warning())
        for line in cluster.launch(worker, places, hydra):
            print(f"a job failed: {line}", file=sys.stderr)
    return grid.show(outcome_of(cells))
