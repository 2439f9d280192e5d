"""What a second worker brings on the tiny grid, and what claiming and writing cost per cell.

python -m benchmarks.scaling
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._report import Spread, spread, table, write
from unibench.compose import compose_cells
from unibench.identity import Cell, cell_of
from unibench.runner import Listener, Stop, work
from unibench.store import ClaimedPart

METHODS = "divprune,fastv,random_pre,random_intra,dpp,dart,l2norm,uniform_grid"
RATIOS = "0.667,0.778,0.889"


class Instant:
    """An executor whose samples take no time."""

    def answer(self, part: ClaimedPart, stop: Stop, listener: Listener) -> None:
        done = part.answered()
        with part.appending({"device": "cpu", "code": "benchmark"}), stop.answering():
            for index in range(part.folder.cell.config.task.limit or 0):
                if str(index) not in done:
                    part.append({"id": str(index), "index": index, "score": 1.0})

    def row(
        self,
        cell: Cell,
        samples: Sequence[dict[str, Any]],
        environments: Sequence[Any],
        vanilla: Any,
    ) -> dict[str, Any]:
        return {
            "key": cell.key,
            "method": cell.method,
            "folder": str(cell.folder),
            "n": len(samples),
        }


def grid(out: Path, limit: int) -> list[str]:
    """The overrides of a grid of 25 cells with vanilla."""
    return [
        f"method={METHODS}",
        f"ratio={RATIOS}",
        f"task.limit={limit}",
        "model.threads=1",
        f"out={out}",
    ]


def command(out: Path, limit: int, workers: int) -> float:
    """Seconds that pass until ``work`` is at its end."""
    line = [
        sys.executable,
        "-m",
        "unibench",
        "work",
        "-m",
        *grid(out, limit),
        "--processes",
        str(workers),
    ]
    start = time.perf_counter()
    subprocess.run(
        line, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return time.perf_counter() - start


def instant(limit: int) -> float:
    """Seconds per cell of samples that take no time."""
    with tempfile.TemporaryDirectory() as out:
        cells = [cell_of(config) for config in compose_cells(grid(Path(out), limit), sweep=True)]
        start = time.perf_counter()
        outcome = work(cells, executors={"embedded": Instant()})
        return (time.perf_counter() - start) / len(outcome.rows)


def measured(repeats: int, limit: int) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    """Seconds by number of workers, of the grid and of the same command when nothing is left to do;
    in turn.
    """
    whole: dict[int, list[float]] = {1: [], 2: []}
    idle: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as out:
                whole[workers].append(command(Path(out), limit, workers))
                idle[workers].append(command(Path(out), limit, workers))
    return whole, idle


def efficiency(one: Sequence[float], two: Sequence[float]) -> Spread:
    """Share of two workers' time that is not lost."""
    return spread([a / (2 * b) for a, b in zip(one, two, strict=True)])


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    whole, idle = measured(arguments.repeats, arguments.limit)
    net = {
        workers: [a - b for a, b in zip(whole[workers], idle[workers], strict=True)]
        for workers in (1, 2)
    }
    rows = [
        [str(workers), *(str(spread(times[workers])) for times in (whole, idle, net))]
        for workers in (1, 2)
    ]
    empty = {
        limit: spread([instant(limit) for _ in range(arguments.repeats)]) for limit in (1, 100)
    }
    lines = [
        "# More workers",
        "",
        (
            f"`work --processes` on 25 cells of {arguments.limit} samples of tiny_qwen2_5_vl, each"
            f" worker on one thread of {os.cpu_count()}"
        ),
        (
            f"processors; seconds that pass, {arguments.repeats} repeats in turn, median"
            " (quartiles). Start-up is the same command when"
        ),
        "nothing is left to do: imports and processes, which a day of work does not notice.",
        "",
        *table(["workers", "whole command", "start-up", "difference"], rows),
        "",
        (
            "Efficiency of two workers, time of one over twice the time of two:"
            f" {efficiency(whole[1], whole[2])} of the whole command,"
        ),
        f"{efficiency(net[1], net[2])} without start-up.",
        "",
        (
            "What planning, claiming, appending, merging and the row cost per cell, with samples"
            " that take no time, in milliseconds:"
        ),
        "",
        *table(
            ["samples of a cell", "ms"],
            [[str(limit), str(_milliseconds(cost))] for limit, cost in empty.items()],
        ),
    ]
    write("scaling", lines)


def _milliseconds(cost: Spread) -> Spread:
    return Spread(1000 * cost.middle, 1000 * cost.low, 1000 * cost.high)


if __name__ == "__main__":
    main()
