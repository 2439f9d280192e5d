"""How the verbs that read a store grow with it: many cells, and long ones.

The stores are drawn, written by the functions that write every store: N cells of S samples of the
three tiny models, ten methods, several ratios and seeds.

python -m benchmarks.stores
"""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

from unibench.compose import compose_cells
from unibench.identity import Cell, cells_of, vanilla_of
from unibench.inference import row as rows
from unibench.inference.record import Record
from unibench.inference.row import Row, row_of
from unibench.store import CellFolder

MODELS = "tiny_qwen2_5_vl,tiny_llava,tiny_internvl"
METHODS = "divprune,fastv,random_pre,random_intra,dart,l2norm,dpp,stp,uniform_grid,visionzip"
RATIOS = "0.5,0.556,0.611,0.667,0.722,0.778,0.833,0.889,0.944"
PLACES = 3 * 10 * 9  # cells of one seed
ENVIRONMENT = {"device": "cpu", "code": "drawn"}
MIB = 1 << 20
ONE = ("model=tiny_qwen2_5_vl", "method=divprune", "ratio=0.889")
FEW = ("ratio=0.889", "task=synthvqa", "model=tiny_qwen2_5_vl")  # filters


@dataclass(frozen=True)
class Taken:
    """What a command took.

    Attributes:
        seconds: of the processor, user and system, children included.
        mib: most memory of the process.
    """

    seconds: float
    mib: float


def make(out: Path, cells: int, samples: int) -> list[str]:
    """A store of so many cells; returns the words of the grid that it is."""
    seeds = ",".join(map(str, range(ceil(cells / PLACES))))
    words = ["-m", f"model={MODELS}", f"method={METHODS}", f"ratio={RATIOS}", f"seed={seeds}"]
    words.append(f"out={out}")
    _cheaply()
    vanillas: dict[str, Row] = {}
    for number, cell in enumerate(cells_of(islice(_configs(words), cells))):
        if cell.setting not in vanillas:
            vanillas[cell.setting] = _written(vanilla_of(cell), samples, 0, None)
        _written(cell, samples, number + 1, vanillas[cell.setting])
    return words


def _configs(words: Sequence[str]) -> Iterator[Any]:
    yield from compose_cells(words[1:], sweep=True)


def _cheaply() -> None:
    """Write without waiting for the disk, and draw the interval of equal scores once: neither
    changes what lies in the store.
    """
    os.fsync = lambda descriptor: None
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
    """Samples with one of sixteen patterns of right and wrong, as long as real ones are."""
    times = dict.fromkeys(("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms"), 12.5)
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
        processed=(144.0, 144.0, 16.0, 16.0),
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
        **times,
    )
    made = []
    for index in range(samples):
        right = pattern == 0 or bool((index * 2654435761 >> pattern) & 3)
        made.append(
            replace(
                record,
                id=f"test-{index:08d}-{('color', 'count')[index % 2]}",
                index=index,
                ability=("color", "count")[index % 2],
                group=f"picture{index // 2}",
                answer="Yes." if right else "no",
                score=float(right),
            )
        )
    return made


def taken(words: Sequence[str]) -> Taken:
    """What a command takes in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # a process between, since the peak of children is that of all there ever were
    code = (
        "import resource, subprocess, sys;"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode;"
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-m", "unibench", *words]
    run = subprocess.run(
        [sys.executable, "-c", code, *command], check=True, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    status, kib = map(int, run.stdout.split())
    if status not in (0, 1):  # `verify` ends with 1 where drawn answers get other scores
        raise RuntimeError(f"{' '.join(words)} ended with {status}:\n{run.stderr}")
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
        "report --html": ["report", "--html", f"to={page}", here],
    }


def measured(
    shape: tuple[int, int], folder: Path, wanted: Callable[[str], bool]
) -> dict[str, Taken]:
    """What each verb takes on a store of this many cells and samples."""
    out, page = folder / "out", folder / "page"
    words = make(out, *shape)
    found = {
        name: taken(command) for name, command in verbs(out, page, words).items() if wanted(name)
    }
    if (page / "index.html").is_file():
        size = (page / "index.html").stat().st_size / MIB
        found["report --html"] = replace(found["report --html"], mib=size)
    return found
