"""``doctor`` for a cluster: every node looks at itself, through the engine that will start the
workers.
"""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unibench import cluster, hub
from unibench.cli.findings import Finding, needed, optional, show
from unibench.cli.grid import Grid
from unibench.cli.parser import Options
from unibench.cli.submitting import engine_of, on_nodes, resources_of
from unibench.errors import UsageError
from unibench.plan import downloads
from unibench.plan.needs import obstacle

MINUTES = 10  # time limit of a node's look at itself, where the command gives none


@dataclass(frozen=True)
class Report:
    """What a node says of itself.

    Attributes:
        host: its name.
        mark: name of the file that it left in the submission's folder.
        needed: without which no worker can run there.
        optional: what some cells need.
    """

    host: str
    mark: str
    needed: list[Finding]
    optional: list[Finding]


@dataclass(frozen=True)
class Probe:
    """Runs on a node.

    Attributes:
        folder: of a submission.
        code: digest of the code that wrote its plan.
        importing: whether the harnesses are imported.
    """

    folder: Path
    code: str
    importing: bool

    def __call__(self, number: int) -> Report:
        """Look at the node."""
        host = platform.node()
        mark = f"node-{host}-{os.getpid()}"
        required = [*self._plan(mark), *needed()]
        return Report(host, mark, required, [_gpus(), _hub(), *optional(self.importing)])

    def _plan(self, mark: str) -> Iterator[Finding]:
        here = cluster.code_digest()
        differs = "" if here == self.code else f", but {self.code} where the command was given"
        yield Finding("code", here == self.code, f"{here}{differs}")
        try:
            (self.folder / mark).touch()
        except OSError as error:
            yield Finding("shared folder", False, f"{self.folder}: {error.strerror}")
            return
        try:
            cells = cluster.read_plan(self.folder)
        except UsageError as error:
            yield Finding("cells", False, str(error))
            return
        yield Finding("shared folder", True, str(self.folder))
        against = list(dict.fromkeys(filter(None, map(obstacle, cells))))
        planned = f"{len(cells)}, keys (code of the methods, data, weights) as planned"
        yield Finding("cells", not against, against[0] if against else planned)
        network = hub.answers()
        remedy = "" if network else "; there is no network here: prefetch on a node that has one"
        for what in downloads(cells):
            yield Finding("to fetch", network, f"{what}{remedy}")


def ask_nodes(options: Options) -> int:
    """``doctor cluster=slurm|ray|local [--nodes N] [--import] [-m] <overrides>``: exit code 1 if a
    node cannot work.
    """
    engine, grid = engine_of(options), Grid(options)
    cells = on_nodes(grid.cells, engine, options.gpus)
    folder = cluster.write_plan(cells, grid.command)
    probe = Probe(folder, cluster.code_digest(), options.importing)
    if engine == "ray":
        answers = [answer for _, answer in cluster.on_each_node(probe, options.address)]
    else:
        options.minutes = options.minutes or MINUTES
        resources = resources_of(options)
        (job,) = cluster.submit(probe, engine, 1, resources, folder, nodes=options.nodes)
        print(f"job {job.job_id} on {engine}, {folder}", flush=True)
        answers = _results(job)
    return max([_show(folder, answer) for answer in answers], default=1)


def _results(job: Any) -> list[Any]:
    # submitit warns of a SLURM without accounting
    logging.getLogger("submitit").setLevel(logging.ERROR)
    try:
        return list(job.results())
    except Exception as error:  # the job failed, was cancelled, or left no result
        return [error]


def _show(folder: Path, answer: Any) -> int:
    if not isinstance(answer, Report):
        print(f"missing a node: {str(answer).strip().splitlines()[-1]}")
        return 1
    print(f"{answer.host}:")
    seen = (folder / answer.mark).exists()
    said = f"what the node wrote {'is' if seen else 'is NOT'} in {folder}"
    return show([Finding("seen here", seen, said), *answer.needed], answer.optional)


def _gpus() -> Finding:
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return Finding("GPUs", False, "none")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all") or "none"
    names = "; ".join(line.partition(" (")[0] for line in listed)
    return Finding("GPUs", True, f"{names}; visible: {visible}")


def _hub() -> Finding:
    if hub.answers():
        return Finding("hub", True, "answers")
    return Finding(
        "hub",
        False,
        "cannot be reached from here; checkpoints and data must be there (prefetch)",
    )
