"""``doctor`` for a cluster: every node looks at itself, through the engine that will start the
workers.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unibench import hub
from unibench.cli.doctor import Finding, needed, optional, show
from unibench.cli.options import taken
from unibench.cli.running import cells_of
from unibench.cli.submitting import RESOURCES, engine_of, on_nodes, resources_of
from unibench.errors import UsageError
from unibench.plan import downloads
from unibench.plan.needs import obstacle


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
        return Report(
            host, mark, [*self._plan(mark), *needed()], [_gpus(), _hub(), *optional(self.importing)]
        )

    def _plan(self, mark: str) -> Iterator[Finding]:
        cluster = importlib.import_module("unibench.cluster")
        here = cluster.code_digest()
        yield (
            "code",
            here == self.code,
            (
                f"{here}{'' if here == self.code else f', but {self.code} where the command was given'}"
            ),
        )
        try:
            (self.folder / mark).touch()
        except OSError as error:
            yield "shared folder", False, f"{self.folder}: {error.strerror}"
            return
        try:
            cells = cluster.read_plan(self.folder)
        except UsageError as error:
            yield "cells", False, str(error)
            return
        yield "shared folder", True, str(self.folder)
        against = list(dict.fromkeys(filter(None, map(obstacle, cells))))
        yield (
            "cells",
            not against,
            (
                against[0]
                if against
                else f"{len(cells)}, keys (code of the methods, data, weights) as planned"
            ),
        )
        for what in downloads(cells):
            yield (
                "to fetch",
                hub.answers(),
                what
                + (
                    ""
                    if hub.answers()
                    else "; there is no network here: prefetch on a node that has one"
                ),
            )


def doctor(words: Sequence[str]) -> int:
    """``doctor cluster=slurm|ray|local [--nodes N] [--import] [-m] <overrides>``: exit code 1 if a
    node cannot work.
    """
    values: dict[str, Callable[[str], Any]] = {"--nodes": int, "--address": str, **RESOURCES}
    words, options = taken(words, flags=("--import",), values=values)
    words, engine = engine_of(words)
    cells = on_nodes(cells_of(words), engine, options)
    cluster = importlib.import_module("unibench.cluster")
    folder = cluster.write_plan(cells, words)
    probe = Probe(folder, cluster.code_digest(), "--import" in options)
    if engine == "ray":
        answers = [
            answer for _, answer in cluster.on_each_node(probe, options.get("--address", "auto"))
        ]
    else:
        (job,) = cluster.submit(
            probe,
            engine,
            1,
            resources_of({"--minutes": 10, **options}),
            folder,
            nodes=options.get("--nodes", 1),
        )
        print(f"job {job.job_id} on {engine}, {folder}", flush=True)
        answers = _results(job)
    return max([_said(folder, answer) for answer in answers], default=1)


def _results(job: Any) -> list[Any]:
    try:
        logging.getLogger("submitit").setLevel(
            logging.ERROR
        )  # a SLURM without accounting is one too
        return list(job.results())
    # of submitit: the job failed, was cancelled, or left no result
    except Exception as error:
        return [error]


def _said(folder: Path, answer: Any) -> int:
    if not isinstance(answer, Report):
        print(f"missing a node: {str(answer).strip().splitlines()[-1]}")
        return 1
    print(f"{answer.host}:")
    seen = (folder / answer.mark).exists()
    back: Finding = (
        "seen here",
        seen,
        f"what the node wrote {'is' if seen else 'is NOT'} in {folder}",
    )
    return show([back, *answer.needed], answer.optional)


def _gpus() -> Finding:
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return "GPUs", False, "none"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all") or "none"
    return (
        "GPUs",
        True,
        f"{'; '.join(line.partition(' (')[0] for line in listed)}; visible: {visible}",
    )


def _hub() -> Finding:
    there = hub.answers()
    return (
        "hub",
        there,
        (
            "answers"
            if there
            else "cannot be reached from here; checkpoints and data must be there (prefetch)"
        ),
    )
