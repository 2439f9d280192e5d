"""Processor seconds of unibench beside the harness's own command, on the same questions.

python -m benchmarks.harness_cost
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks._report import short, spread, table, write
from tests.harness.running import card
from tests.harness.standins import write as write_tables
from unibench.compose import compose_cells
from unibench.config import Harness, ModelConfig
from unibench.paths import PACKAGE

MODEL, TASK = "tiny_qwen2_5_vl", "pope"
HARNESSES: tuple[Harness, ...] = ("vlmevalkit", "lmms_eval")
SIDES = ("harness", "unibench")


@dataclass(frozen=True)
class Run:
    """What both commands of a comparison are given.

    Attributes:
        harness: that asks.
        model: the configured model.
        folder: for tables and results.
    """

    harness: Harness
    model: ModelConfig
    folder: Path

    def seconds(self, side: str, size: int, number: int) -> float:
        """Processor seconds of a whole command on so many questions."""
        tables = self.folder / f"{self.harness}_{size}"
        side_card = card(TASK, self.harness)
        assert side_card is not None
        if not tables.exists():
            write_tables(tables, self.harness, [side_card.name], size)
        # VLMEvalKit unpacks pictures beside its table, and a second run would find them there;
        # unibench unpacks them for each cell
        shutil.rmtree(tables / "images", ignore_errors=True)
        out = self.folder / f"{self.harness}_{size}_{side}_{number}"
        out.mkdir()
        own = side == "harness"
        words = self._own(side_card.name, tables, out) if own else self._ours(tables, out)
        return _seconds([sys.executable, "-m", *words], out / "log")

    def _own(self, name: str, tables: Path, out: Path) -> list[str]:
        card_entry = self.model.harness_entry
        entry = str(getattr(card_entry, self.harness))
        options = json.dumps(dict(card_entry.options.get(self.harness, {})))
        checkpoint = str(PACKAGE / "models" / "tiny" / "qwen2_5_vl")
        places = [checkpoint, str(tables), name, str(out)]
        return ["tests.harness.native", self.harness, entry, *places, options]

    def _ours(self, tables: Path, out: Path) -> list[str]:
        words = [f"task={TASK}", f"harness={self.harness}", f"model={MODEL}", "method=vanilla"]
        return ["unibench", *words, "model.device=cpu", f"task.data={tables}", f"out={out}"]


def _seconds(command: Sequence[str], log: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as stream:
        subprocess.run(command, check=True, stdout=stream, stderr=stream, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs=2, default=(60, 300))
    parser.add_argument("--harnesses", nargs="+", choices=HARNESSES, default=HARNESSES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    (config,) = compose_cells([f"model={MODEL}"], sweep=False)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for harness in arguments.harnesses:
            run = Run(harness, config.model, Path(folder))
            rows.append(_row(run, arguments.sizes, arguments.repeats))
    few, many = arguments.sizes
    lines = [
        "# The harness's own command and unibench",
        "",
        f"Processor seconds, user and system, children included, of whole commands that ask"
        f" `{MODEL}` {few} and {many} questions of",
        f"`{TASK}` (stand-ins), unpruned: the harness's own command / `python -m unibench"
        " harness=...`. *A question*: what each question",
        f"between the {few}th and the {many}th costs; *ratio* is unibench's over the harness's,"
        " at most 1.10 wanted. *Start-up*: the rest, imports and",
        f"loading. {arguments.repeats} repeats, the four commands in turn; the least of each"
        " command, since other programs only add. In brackets the",
        "quartiles of the ratio by one repeat alone.",
        "Caches that are shared make a second dearer: load average of the machine before and after"
        f" {load:.1f} and {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores.",
        "",
        *table(
            ["harness", f"{few}, s", f"{many}, s", "a question, ms", "ratio", "start-up, s"], rows
        ),
    ]
    write("harness_cost", lines)


def _row(run: Run, sizes: Sequence[int], repeats: int) -> list[str]:
    taken: dict[tuple[str, int], list[float]] = {(side, n): [] for side in SIDES for n in sizes}
    for number in range(repeats):
        for side, size in taken:
            taken[side, size].append(run.seconds(side, size, number))
    few, many = sizes
    # other programs can only add to the seconds of a command: the least of them is its own
    least = {command: min(seconds) for command, seconds in taken.items()}
    slopes = {side: (least[side, many] - least[side, few]) / (many - few) for side in SIDES}
    by_repeat = [
        _slope(taken, "unibench", sizes, number) / _slope(taken, "harness", sizes, number)
        for number in range(repeats)
    ]
    around = spread(by_repeat)
    ratio = slopes["unibench"] / slopes["harness"]
    return [
        run.harness,
        *(_pair({side: least[side, size] for side in SIDES}) for size in sizes),
        _pair({side: 1000 * slopes[side] for side in SIDES}),
        f"{short(ratio)} ({short(around.low)}-{short(around.high)})",
        _pair({side: least[side, few] - few * slopes[side] for side in SIDES}),
    ]


def _slope(
    taken: dict[tuple[str, int], list[float]], side: str, sizes: Sequence[int], number: int
) -> float:
    """Seconds of a further question, by one repeat alone."""
    few, many = sizes
    return (taken[side, many][number] - taken[side, few][number]) / (many - few)


def _pair(values: dict[str, float]) -> str:
    return " / ".join(short(values[side]) for side in SIDES)


if __name__ == "__main__":
    main()
