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

from unibench.cli.grid import Grid
from unibench.cli.parser import Options
from unibench.config import Harness
from unibench.harness.client import HarnessProcess
from unibench.harness.job import write_prefetch
from unibench.hub import trouble
from unibench.identity import Cell


def prefetch(options: Options) -> int:
    """``prefetch [-m] <overrides>``: exit code 1 if something could not be had."""
    cells = Grid(options).cells
    models = [cell.config.model for cell in cells]
    checkpoints = dict.fromkeys(
        (str(model.checkpoint), model.revision)
        for model in models
        if model.path is None and model.weights == "pretrained"
    )
    benchmarks = _benchmarks(cells)
    fine = [_checkpoint(checkpoint, revision) for checkpoint, revision in checkpoints]
    fine += [_data(python, harness, names) for (python, harness), names in benchmarks.items()]
    if not fine:
        print("nothing to fetch: models and data are on this machine")
    return 0 if all(fine) else 1


def _checkpoint(checkpoint: str, revision: str | None) -> bool:
    try:
        place = snapshot_download(checkpoint, revision=revision)
    except Exception as error:  # whatever the hub's client raises, the next one is tried
        said = trouble(error) or str(error).splitlines()[0]
        print(f"missing {checkpoint}: {said}", file=sys.stderr)
        return False
    print(f"ok      {checkpoint}: {place}")
    return True


def _benchmarks(cells: Iterable[Cell]) -> dict[tuple[str, Harness], list[str]]:
    """Official names of published data by interpreter and harness."""
    needed: dict[tuple[str, Harness], list[str]] = {}
    for cell in cells:
        if cell.benchmark is not None and cell.config.task.data is None:
            python = cell.config.harness_options.python or sys.executable
            names = needed.setdefault((python, cell.benchmark.harness), [])
            if cell.benchmark.card.name not in names:
                names.append(cell.benchmark.card.name)
    return needed


def _data(python: str, harness: Harness, names: list[str]) -> bool:
    """Let a child fetch, since only the harness knows where its data is."""
    fine = True
    with tempfile.TemporaryDirectory() as folder, closing(HarnessProcess(python, {})) as process:
        job = Path(folder, "prefetch.json")
        write_prefetch(harness, names, job)
        for event in process.take(job, Path(folder, "run.log"), "done"):
            if event["event"] == "fetched":
                fine &= event["fine"]
                state = "ok     " if event["fine"] else "missing"
                print(f"{state} {harness} {event['name']}: {event['message']}")
    return fine
