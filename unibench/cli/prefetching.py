"""``prefetch``: what a grid needs from the network, fetched now for a machine that will have
none.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from huggingface_hub import snapshot_download

from unibench.benchmark import benchmark_of
from unibench.cli.running import SWEEP
from unibench.compose import compose_cells
from unibench.config import RunConfig
from unibench.harness.client import HarnessProcess
from unibench.harness.job import write_prefetch


def prefetch(words: list[str]) -> int:
    """``prefetch [-m] <overrides>``: exit code 1 if something could not be had."""
    overrides = [word for word in words if word not in SWEEP]
    cells = compose_cells(overrides, sweep=len(overrides) < len(words))
    checkpoints = dict.fromkeys(
        (cell.model.checkpoint, cell.model.revision)
        for cell in cells
        if cell.model.path is None and cell.model.weights == "pretrained"
    )
    fine = True
    for checkpoint, revision in checkpoints:
        fine &= _checkpoint(str(checkpoint), revision)
    for (python, harness), names in _benchmarks(cells).items():
        fine &= _data(python, harness, names)
    if not checkpoints and not _benchmarks(cells):
        print("nothing to fetch: models and data are on this machine")
    return 0 if fine else 1


def _checkpoint(checkpoint: str, revision: str | None) -> bool:
    try:
        place = snapshot_download(checkpoint, revision=revision)
    except Exception as error:  # whatever the hub's client raises, the next one is tried
        print(f"missing {checkpoint}: {str(error).splitlines()[0]}", file=sys.stderr)
        return False
    print(f"ok      {checkpoint}: {place}")
    return True


def _benchmarks(cells: Iterable[RunConfig]) -> dict[tuple[str, str], list[str]]:
    """Official names of published data by interpreter and harness."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        benchmark = benchmark_of(cell)
        if benchmark is not None and cell.task.data is None:
            names = found.setdefault(
                (cell.harness_options.python or sys.executable, benchmark.harness), []
            )
            if benchmark.card.name not in names:
                names.append(benchmark.card.name)
    return found


def _data(python: str, harness: str, names: list[str]) -> bool:
    """Let a child fetch, since only the harness knows where its data is."""
    fine = True
    with tempfile.TemporaryDirectory() as folder, closing(HarnessProcess(python, {})) as process:
        job = Path(folder, "prefetch.json")
        write_prefetch(harness, names, job)
        for event in process.events(job, Path(folder, "run.log"), "done"):
            if event["event"] == "fetched":
                fine &= event["fine"]
                print(
                    f"{'ok     ' if event['fine'] else 'missing'} {harness} {event['name']}:"
                    f" {event['message']}"
                )
    return fine
