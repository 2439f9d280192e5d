"""How the verbs that read a store grow with it: many cells, and long ones.

The stores are drawn, written by the functions that write every store: N cells of S samples of the
three tiny models, ten methods, several ratios and seeds.

python -m benchmarks.stores
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks._report import exponent, short, table, write
from unibench.compose import compose_cells
from unibench.identity import Cell, cells_of, vanilla_of
from unibench.inference import row as rows
from unibench.inference.record import Record
from unibench.inference.row import Row, row_of
from unibench.store import CellFolder
from unibench.tasks.synthvqa import SynthVQA

MODELS = "tiny_qwen2_5_vl,tiny_llava,tiny_internvl"
METHODS = "divprune,fastv,random_pre,random_intra,dart,l2norm,dpp,stp,uniform_grid,visionzip"
RATIOS = "0.5,0.556,0.611,0.667,0.722,0.778,0.833,0.889,0.944"
PLACES = 3 * 10 * 9  # cells of one seed
ENVIRONMENT = {"device": "cpu", "code": "drawn"}
DRAWN = 10_000
MIB = 1 << 20
ONE = ("model=tiny_qwen2_5_vl", "method=divprune", "ratio=0.889")
PAGE = "report --html"
FEW = ("ratio=0.889", "task=synthvqa", "model=tiny_qwen2_5_vl")  # filters


@dataclass(frozen=True)
class Taken:
    """What a command took.

    Attributes:
        seconds: of the processor, user and system, children included.
        mib: most memory of the process.
        written: size of the page that it wrote, in MiB.
    """

    seconds: float
    mib: float
    written: float | None = None

    @property
    def shown(self) -> str:
        size = "" if self.written is None else f", page {short(self.written)} MiB"
        return f"{short(self.seconds)} s, {self.mib:.0f} MiB{size}"


@dataclass(frozen=True)
class Shape:
    """A store of so many cells with so many samples each."""

    cells: int
    samples: int

    @property
    def shown(self) -> str:
        return f"{self.cells:,} cells of {self.samples:,}"


def grid(out: Path, shape: Shape) -> list[str]:
    """The words of a grid of at least so many cells, each asked so many samples."""
    seeds = ",".join(map(str, range(ceil(shape.cells / PLACES))))
    words = ["-m", f"model={MODELS}", f"method={METHODS}", f"ratio={RATIOS}", f"seed={seeds}"]
    return [*words, f"task.limit={shape.samples}", f"out={out}"]


def make(out: Path, shape: Shape) -> None:
    """A store of so many cells of a grid."""
    words = grid(out, shape)
    _cheaply()
    vanillas: dict[str, Row] = {}
    for number, cell in enumerate(cells_of(islice(_configs(words), shape.cells))):
        if cell.setting not in vanillas:
            vanillas[cell.setting] = _written(vanilla_of(cell), shape.samples, 0, None)
        _written(cell, shape.samples, number + 1, vanillas[cell.setting])


def _configs(words: Sequence[str]) -> Iterator[Any]:
    yield from compose_cells(words[1:], sweep=True)


def _cheaply() -> None:
    """Write without waiting for the disk, and draw the interval of equal scores once: neither
    changes what lies in the store.
    """
    setattr(os, "fsync", lambda descriptor: None)  # noqa: B010
    drawn: dict[object, rows.Score] = {}
    mean = getattr(rows, "_mean")  # noqa: B009 - private to everything else

    def once(records: Sequence[Record]) -> rows.Score:
        scores = tuple((record.score, record.group) for record in records)
        if scores not in drawn:
            drawn[scores] = mean(records)
        return drawn[scores]

    setattr(rows, "_mean", once)  # noqa: B010


def _written(cell: Cell, samples: int, number: int, vanilla: Row | None) -> Row:
    """The row of a cell that has been written."""
    folder, records = CellFolder(cell), _records(samples, number % 16)
    with folder.appending(ENVIRONMENT):
        for record in records:
            folder.append(record.as_json())
    folder.merge()
    row = row_of(cell, records, [ENVIRONMENT], vanilla, "accuracy")
    folder.finish(row.as_json())
    return row


@functools.cache
def _records(samples: int, pattern: int) -> list[Record]:
    """The first samples of the task, as long as real ones are, with one of sixteen patterns of
    right and wrong answers.
    """
    record = Record(
        id="",
        ability="",
        group="",
        truth="yes",
        question="Is the small red square to the left of the large blue circle? Yes or no.",
        prompt="user: <image> Is the small red square to the left of the blue circle? assistant:",
        answer="",
        score=0.0,
        text_tokens=31,
        visual_tokens=144,
        kept=16,
        processed=(144, 144, 16, 16),
        last="f" * 36,
        layout=((144, ((1, 12, 12, "", False),)),),
        seen=((0.0, 0.0, 1.0, 1.0),),
        new_tokens=2,
        tflops=0.0123,
        tflops_full=0.0456,
        method_tflops=0.0001,
        kv_mib=0.25,
        notes=(),
        prompt_digest="0123456789abcdef",
        pixel_digest="0123456789abcdef",
        total_ms=12.5,
        vision_ms=2.5,
        prefill_ms=9.5,
        method_ms=0.5,
        decode_ms=3.0,
    )
    made = []
    for index, (name, ability, group, truth) in enumerate(_asked(samples)):
        right = pattern == 0 or bool((index * 2654435761 >> pattern) & 3)
        made.append(
            replace(
                record,
                id=name,
                index=index,
                ability=ability,
                group=group,
                truth=truth,
                answer=truth if right else "neither",
                score=float(right),
            )
        )
    return made


def _asked(samples: int) -> Iterator[tuple[str, str, str, str]]:
    """Name, ability, picture and truth of the first samples of the task, so that `verify` finds
    every score to be what its answer gets; beyond :data:`DRAWN`, which only `plan` is asked about,
    of no task, since pictures of all of them would take minutes to draw.
    """
    for sample in islice(SynthVQA().samples(samples), DRAWN):
        yield sample.id, sample.ability, sample.group, sample.answers[0]
    for index in range(DRAWN, samples):
        yield f"test-{index:08d}", "counting", f"picture{index // 2}", "1"


def taken(words: Sequence[str]) -> Taken:
    """What a command takes in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # a process between, since the peak of children is that of all there ever were
    code = (
        "import resource, subprocess, sys;"
        "run = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE);"
        "print(run.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss);"
        "print(run.stdout[-2000:].decode(errors='replace'))"
    )
    command = [sys.executable, "-m", "unibench", *words]
    run = subprocess.run(
        [sys.executable, "-c", code, *command], check=True, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    numbers, _, told = run.stdout.partition("\n")
    status, kib = map(int, numbers.split())
    if status:
        raise RuntimeError(f"{' '.join(words)} ended with {status}:\n{told}\n{run.stderr}")
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Taken(seconds, kib * 1024 / MIB)


def verbs(out: Path, page: Path, words: Sequence[str]) -> Mapping[str, list[str]]:
    """Commands that read a store, by what the page calls them."""
    here = f"out={out}"
    return {
        "report, the index not there yet": ["report", here],
        "report": ["report", here],
        "report with a filter": ["report", *FEW, here],
        "compare": ["compare", "divprune", "fastv", *FEW, here],
        "plan": ["plan", *words],
        "store index": ["store", "index", str(out)],
        "store verify": ["store", "verify", str(out)],
        "store prune, dry": ["store", "prune", str(out), "--failed"],
        PAGE: ["report", "--html", f"to={page}", here],
    }


def measured(shape: Shape, folder: Path) -> dict[str, Taken]:
    """What each verb takes on a store of this many cells and samples."""
    out, page = folder / "out", folder / "page"
    # in a process of its own, which remembers what it asked of the methods, as a run does
    one = ("--make", str(out), "--cells", str(shape.cells), "--samples", str(shape.samples))
    subprocess.run([sys.executable, "-m", "benchmarks.stores", *one], check=True)
    found: dict[str, Taken] = {}
    for name, command in verbs(out, page, grid(out, shape)).items():
        found[name] = taken(command)
        # an hour of measuring is not lost with the command that fails
        print(f"{shape.shown}, {name}: {found[name].shown}", flush=True)
    size = (page / "index.html").stat().st_size / MIB
    return {**found, PAGE: replace(found[PAGE], written=size)}


def partial(folder: Path, samples: int) -> Taken:
    """What `plan` takes where one cell has this many samples, and no row yet."""
    words = [*ONE, f"task.limit={samples}", f"out={folder}"]
    (config,) = compose_cells(words, sweep=False)
    (cell,) = cells_of([config])
    stored = CellFolder(cell)
    with stored.appending(ENVIRONMENT):
        for record in _records(samples, 1):
            stored.append(record.as_json())
    return taken(["plan", *words])


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", default="500,2000,8000", help="sizes of stores of 8 samples")
    parser.add_argument("--long", default="40x9000", help="a store of long cells")
    parser.add_argument("--samples", default="20000,200000", help="of one cell")
    parser.add_argument("--make", type=Path, help="make a store there, and measure nothing")
    arguments = parser.parse_args()
    if arguments.make is not None:
        make(arguments.make, Shape(int(arguments.cells), int(arguments.samples)))
        return
    counts = [int(count) for count in arguments.cells.split(",")]
    shapes = [Shape(count, 8) for count in counts]
    shapes.append(Shape(*map(int, arguments.long.split("x"))))
    found: list[dict[str, Taken]] = []
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measured(shape, Path(folder)))
    lengths = [int(count) for count in arguments.samples.split(",")]
    plans = []
    for length in lengths:
        with tempfile.TemporaryDirectory() as folder:
            plans.append(partial(Path(folder), length))
    write("stores", page_of(shapes, found, lengths, plans))


def page_of(
    shapes: Sequence[Shape],
    found: Sequence[Mapping[str, Taken]],
    lengths: Sequence[int],
    plans: Sequence[Taken],
) -> list[str]:
    """Lines of the page."""
    counts = [shape.cells for shape in shapes[:-1]]
    rows_ = []
    for name in found[0]:
        values = [one[name] for one in found]
        grown = exponent(counts, [value.seconds for value in values[:-1]])
        rows_.append([f"`{name}`", *(value.shown for value in values), grown])
    one = [[f"{length:,}", plan.shown] for length, plan in zip(lengths, plans, strict=True)]
    return [
        "# Stores of many cells",
        "",
        "Processor seconds of a whole command, user and system, and the most memory it had. The",
        "exponent is the power of the number of cells that the seconds grow with from one store to",
        "the next; below 1 the start of Python is most of it.",
        "",
        *table(["command", *(shape.shown for shape in shapes), "exponent"], rows_),
        "",
        f"The filter is `{' '.join(FEW)}`. The size of the page is that of its file.",
        "",
        "`plan` where one cell is not complete, by its samples:",
        "",
        *table(["samples", "seconds"], one),
    ]


if __name__ == "__main__":
    main()
