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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks._grids import METHODS, Asked
from benchmarks._grids import RATIOS as SHARES
from benchmarks._report import short, table, write
from benchmarks.startup import processor_seconds
from unibench.compose import compose_cells
from unibench.models import load
from unibench.tasks.synthvqa import SynthVQA

RATIOS = ",".join(map(str, SHARES))
PROMPTS, TOKENS = 8, 2  # of which the arithmetic of a sample is a mean; most answers are as long

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


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", default="20,200", help="sizes of the grid, 20,200")
    parser.add_argument(
        "--others",
        default="tiny_llava,tiny_internvl",
        help="models whose answers are compared too, at the last size",
    )
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.samples.split(",")]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = [_grid(size, Path(folder, str(size))) for size in sizes]
        models = [name for name in arguments.others.split(",") if name]
        others = {name: _same(name, sizes[-1], Path(folder, name)) for name in models}
        differing, compared = _in_half_precision(sizes[0], Path(folder))
        taken = {cells: _of_size(cells, Path(folder), sizes[0]) for cells in SIZES}
    write("sharing", _page(sizes, found, others, (differing, compared), taken))


@dataclass(frozen=True)
class Grid:
    """One grid, run in three ways.

    Attributes:
        cells: how many.
        processor, clock: seconds of the three: answered together, with one pass of the tower, and
            a process for each cell.
        same: whether answers and selections of the three are equal.
        plan: what the plan says at the end.
    """

    cells: int
    processor: tuple[float, float, float]
    clock: tuple[float, float, float]
    same: bool
    plan: str


def _page(
    sizes: Sequence[int],
    found: Sequence[Grid],
    others: Mapping[str, bool],
    half: tuple[int, int],
    taken: dict[int, float],
) -> list[str]:
    """Lines of the page.

    Args:
        sizes: samples of each grid.
        found: the grids.
        others: by model, whether its answers together and one by one are equal.
        half: answers that differ in bfloat16, and all.
        taken: milliseconds of a further sample by the number of cells.
    """
    differing, compared = half
    return [
        "# Shared work in one process",
        "",
        (
            f"tiny_qwen2_5_vl on synthvqa, {found[0].cells} cells (10 methods x 3 ratios, and"
            f" vanilla) of {' and '.join(map(str, sizes))} samples, batch 1."
        ),
        *(
            f"Answers and selections of the three, {size} samples: {_said(grid.same)}."
            for size, grid in zip(sizes, found, strict=True)
        ),
        *(
            f"{name}, answered together and one by one, {sizes[-1]} samples: {_said(same)}."
            for name, same in others.items()
        ),
        "",
        *table(
            [
                "",
                *(f"processor s, {size}" for size in sizes),
                *(f"clock s, {size}" for size in sizes),
            ],
            _rows(found),
        ),
        "",
        *_bound(sizes, found, taken[1]),
        "",
        f"The plan afterwards says: {found[0].plan}",
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
            f" together: what a further sample costs, from {START} samples to {sizes[0]}."
        ),
        "",
        *table(
            ["cells", "processor ms for a sample", "exponent from the line above"],
            [[str(cells), short(cost), _exponent(taken, cells)] for cells, cost in taken.items()],
        ),
    ]


def _words(samples: int) -> list[str]:
    """Of the command line: the grid of so many samples."""
    return ["-m", f"method={METHODS}", f"ratio={RATIOS}", "timing=false", f"task.limit={samples}"]


def _timed(*commands: Sequence[str]) -> tuple[float, float]:
    """Processor seconds of commands, and seconds of the clock."""
    start = time.monotonic()
    return sum(processor_seconds(list(words)) for words in commands), time.monotonic() - start


def _grid(samples: int, folder: Path) -> Grid:
    """Run a grid of so many samples in the three ways."""
    fused, together, alone = (folder / name for name in ("fused", "together", "alone"))
    grid = [*_words(samples), "share=memory", f"out={together}"]
    cells = [["method=vanilla"]] + [
        [f"method={method}", f"ratio={ratio}"]
        for method in METHODS.split(",")
        for ratio in RATIOS.split(",")
    ]
    apart = [[*words, f"task.limit={samples}", f"out={alone}"] for words in cells]
    taken = [
        _timed([*_words(samples), "fuse=cells", f"out={fused}"]),
        _timed(grid),
        _timed(*apart),
    ]
    plan = [sys.executable, "-m", "unibench", "plan", *grid]
    said = subprocess.run(plan, check=True, capture_output=True, text=True).stdout
    first, second, third = taken
    return Grid(
        cells=len(answers(alone)),
        processor=(first[0], second[0], third[0]),
        clock=(first[1], second[1], third[1]),
        same=answers(fused) == answers(together) == answers(alone),
        plan=" ".join(said.splitlines()[-2:]).strip(),
    )


def _rows(grids: Sequence[Grid]) -> list[list[str]]:
    """Of the first table: seconds, and their ratios."""
    ways = (
        "one process, cells answered together",
        "one process, one pass of the tower",
        "a process for each cell",
    )
    ratios = (
        ("ratio of the last two", 2, 1),
        ("ratio of the last and the first", 2, 0),
        ("ratio of the first two", 1, 0),
    )
    columns = [grid.processor for grid in grids] + [grid.clock for grid in grids]
    rows = [[way, *(short(column[i]) for column in columns)] for i, way in enumerate(ways)]
    for title, over, under in ratios:
        rows.append([title, *(short(column[over] / column[under]) for column in columns)])
    return rows


def _same(model: str, samples: int, folder: Path) -> bool:
    """Whether cells of a model have the same answers and selections answered together and apart."""
    found = []
    for name, more in (("fused", ["fuse=cells"]), ("together", ["share=memory"])):
        words = [*_words(samples), f"model={model}", *more, f"out={folder / name}"]
        processor_seconds(words)
        found.append(answers(folder / name))
    return found[0] == found[1]


def _bound(sizes: Sequence[int], found: Sequence[Grid], vanilla: float) -> list[str]:
    """What a start leaves to be gained with few samples.

    Args:
        sizes: samples of the grids.
        found: the grids.
        vanilla: milliseconds of a further sample of vanilla alone.
    """
    if len(sizes) < 2:
        return []
    (few, *_, many), (small, *_, large) = sizes, found
    slopes = [
        (more - less) / (many - few)
        for less, more in zip(small.processor, large.processor, strict=True)
    ]
    starts = [less - few * slope for less, slope in zip(small.processor, slopes, strict=True)]
    together, alone = slopes[0], starts[2] / small.cells
    arithmetic = _arithmetic()
    limits = [
        small.processor[2] / (alone + few * times * vanilla / 1000) for times in (arithmetic, 1)
    ]
    return [
        f"What does not grow with the samples is {short(starts[0])} s of the cells answered"
        f" together, and {short(alone)} s of each process for one cell. A further sample takes"
        f" {short(1000 * together)} ms together, {short(1000 * together / vanilla)} times vanilla's"
        f" {short(vanilla)} ms; the arithmetic of the cells predicts {short(arithmetic)} times."
        f" With the start of one cell and no more than that arithmetic, a process for each cell"
        f" would take {short(limits[0])} times as long with {few} samples; were the whole grid as"
        f" cheap as vanilla alone, {short(limits[1])} times."
    ]


def _arithmetic() -> float:
    """Operations of a sample of the grid as a multiple of vanilla's."""
    loaded = load(compose_cells(["model=tiny_qwen2_5_vl"], sweep=False)[0].model)
    return fmean(
        Asked.of(loaded, [sample.images[0], sample.question], TOKENS).predicted()
        for sample in SynthVQA().samples(PROMPTS)
    )


def _said(same: bool) -> str:
    return "equal" if same else "**different**"


def _in_half_precision(samples: int, folder: Path) -> tuple[int, int]:
    """Answers of a grid in bfloat16 that differ when its cells are answered together, and all."""
    found = []
    for name, more in (("half", []), ("half-fused", ["fuse=cells"])):
        out = folder / name
        processor_seconds([*_words(samples), *more, "model.dtype=bfloat16", f"out={out}"])
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
