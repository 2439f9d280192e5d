"""A grid in one process, with one pass of the vision tower, against a process for each of its
cells.

python -m benchmarks.sharing
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks._report import short, table, write
from benchmarks.startup import processor_seconds

METHODS = "divprune,fastv,random_pre,random_intra,dart,l2norm,dpp,stp,uniform_grid,visionzip"
RATIOS = "0.667,0.778,0.889"
TIMES = ("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms", "run")


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


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    common = [f"task.limit={arguments.samples}"]
    with tempfile.TemporaryDirectory() as folder:
        together, alone = Path(folder, "together"), Path(folder, "alone")
        grid = [
            "-m",
            f"method={METHODS}",
            f"ratio={RATIOS}",
            "timing=false",
            "share=memory",
            *common,
            f"out={together}",
        ]
        start = time.monotonic()
        shared = processor_seconds(grid)
        shared_wall, start = time.monotonic() - start, time.monotonic()
        cells = [["method=vanilla"]] + [
            [f"method={method}", f"ratio={ratio}"]
            for method in METHODS.split(",")
            for ratio in RATIOS.split(",")
        ]
        apart = sum(processor_seconds([*words, *common, f"out={alone}"]) for words in cells)
        apart_wall = time.monotonic() - start
        same, number = answers(together) == answers(alone), len(answers(alone))
        plan = [sys.executable, "-m", "unibench", "plan", *grid]
        planned = subprocess.run(
            plan, check=True, capture_output=True, text=True
        ).stdout.splitlines()[-2:]
    rows = [
        ["one process, one pass of the tower", short(shared), short(shared_wall)],
        ["a process for each cell", short(apart), short(apart_wall)],
        ["ratio", short(apart / shared), short(apart_wall / shared_wall)],
    ]
    lines = [
        "# Shared work in one process",
        "",
        (
            f"tiny_qwen2_5_vl on synthvqa, {number} cells (10 methods x 3 ratios, and vanilla) of"
            f" {arguments.samples} samples, batch 1."
        ),
        f"Answers and selections of the two: {'equal' if same else '**different**'}.",
        "",
        *table(["", "processor s", "s of the clock"], rows),
        "",
        f"The plan afterwards says: {' '.join(planned).strip()}",
    ]
    write("sharing", lines)


if __name__ == "__main__":
    main()
