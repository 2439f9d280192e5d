"""A grid whose cells are answered together, and one with one pass of the vision tower for all of
them, against a process for each cell; and what one more cell costs where they stand together.

python -m benchmarks.sharing
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks._report import short, table, write
from benchmarks.startup import processor_seconds

METHODS = "divprune,fastv,random_pre,random_intra,dart,l2norm,dpp,stp,uniform_grid,visionzip"
RATIOS = "0.667,0.778,0.889"
GRID = product(METHODS.split(","), RATIOS.split(","))
CELLS = [["method=vanilla"], *([f"method={name}", f"ratio={ratio}"] for name, ratio in GRID)]
TIMES = ("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms", "run", "beside")
# of 1, 4, 16 and 64 cells: vanilla, and three methods at so many ratios
START = 2
FEW = "divprune,fastv,random_pre"
SIZES = {1: 0, 4: 1, 16: 5, 64: 21}


def answers(out: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Samples of every cell, by method and budget, without what depends on the clock."""
    found = {}
    for file in out.rglob("metrics.json"):
        row = json.loads(file.read_text(encoding="utf-8"))
        lines = (file.parent / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        found[row["method"], row["budget"]] = [
            {key: value for key, value in json.loads(line).items() if key not in TIMES}
            for line in lines
        ]
    return found


def _taken(commands: Sequence[list[str]]) -> tuple[float, float]:
    """Processor seconds and seconds of the clock of commands, one after the other."""
    start = time.monotonic()
    return sum(map(processor_seconds, commands)), time.monotonic() - start


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    common = [f"task.limit={arguments.samples}"]
    with tempfile.TemporaryDirectory() as folder:
        fused, together, alone = (Path(folder, name) for name in ("fused", "together", "alone"))
        whole = ["-m", f"method={METHODS}", f"ratio={RATIOS}", "timing=false", *common]
        grid = [*whole, "share=memory", f"out={together}"]
        joined, joined_wall = _taken([[*whole, "fuse=cells", f"out={fused}"]])
        shared, shared_wall = _taken([grid])
        apart, apart_wall = _taken([[*words, *common, f"out={alone}"] for words in CELLS])
        same = answers(fused) == answers(together) == answers(alone)
        number = len(answers(alone))
        plan = [sys.executable, "-m", "unibench", "plan", *grid]
        planned = subprocess.run(
            plan, check=True, capture_output=True, text=True
        ).stdout.splitlines()[-2:]
        differing, compared = _in_half_precision(whole, Path(folder))
        taken = {cells: _of_size(cells, Path(folder), arguments.samples) for cells in SIZES}
    rows = [
        ["one process, cells answered together", short(joined), short(joined_wall)],
        ["one process, one pass of the tower", short(shared), short(shared_wall)],
        ["a process for each cell", short(apart), short(apart_wall)],
        ["ratio of the last two", short(apart / shared), short(apart_wall / shared_wall)],
        ["ratio of the last and the first", short(apart / joined), short(apart_wall / joined_wall)],
        ["ratio of the first two", short(shared / joined), short(shared_wall / joined_wall)],
    ]
    lines = [
        "# Shared work in one process",
        "",
        (
            f"tiny_qwen2_5_vl on synthvqa, {number} cells (10 methods x 3 ratios, and vanilla) of"
            f" {arguments.samples} samples, batch 1."
        ),
        f"Answers and selections of the three: {'equal' if same else '**different**'}.",
        "",
        *table(["", "processor s", "s of the clock"], rows),
        "",
        f"The plan afterwards says: {' '.join(planned).strip()}",
        "",
        (
            "In bfloat16, where what stands beside a row can change the order of its sums,"
            f" {differing} of {compared} answers of the grid differ from those of cells answered"
            " one after the other; in float32 none may."
        ),
        "",
        "## Cells that stand together",
        "",
        (
            "Vanilla, and divprune, fastv and random_pre at more and more ratios, answered"
            f" together: what a further sample costs, from {START} samples to {arguments.samples}."
        ),
        "",
        *table(
            ["cells", "processor ms for a sample", "exponent from the line above"],
            [[str(cells), short(cost), _exponent(taken, cells)] for cells, cost in taken.items()],
        ),
    ]
    write("sharing", lines)


def _in_half_precision(words: list[str], folder: Path) -> tuple[int, int]:
    """Answers of a grid in bfloat16 that differ when its cells are answered together, and all."""
    found = []
    for name, more in (("half", []), ("half-fused", ["fuse=cells"])):
        out = folder / name
        processor_seconds([*words, *more, "model.dtype=bfloat16", f"out={out}"])
        found.append(answers(out))
    alone, fused = found
    pairs = [
        (one["answer"], two["answer"])
        for cell, samples in alone.items()
        for one, two in zip(samples, fused[cell], strict=True)
    ]
    return sum(one != two for one, two in pairs), len(pairs)


def _of_size(cells: int, folder: Path, samples: int) -> float:
    """Processor milliseconds of a further sample in a grid of so many cells."""
    methods = ["method=vanilla"]
    if SIZES[cells]:
        ratios = ",".join(f"{0.3 + 0.03 * step:.2f}" for step in range(SIZES[cells]))
        methods = [f"method={FEW}", f"ratio={ratios}"]
    words = ["-m", *methods, "timing=false", "fuse=cells"]

    def seconds(limit: int) -> float:
        place = folder / f"{cells}-{limit}"
        return processor_seconds([*words, f"task.limit={limit}", f"out={place}"])

    # imports, loading, and what the first sample of each shape has counted are in both
    return 1000 * (seconds(samples) - seconds(START)) / (samples - START)


def _exponent(taken: dict[int, float], cells: int) -> str:
    """Of the power law between a number of cells and the one before."""
    sizes = list(taken)
    place = sizes.index(cells)
    if not place:
        return ""
    before = sizes[place - 1]
    return short(math.log(taken[cells] / taken[before]) / math.log(cells / before))


if __name__ == "__main__":
    main()
