"""Certificates of made-up answers, and what somebody does to them who writes rows, scores, tests
and manifests anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from tests.stats._cells import ENVIRONMENT
from tests.support.records import record
from unibench import UsageError, registry
from unibench.identity import Cell, key_of, vanilla_of
from unibench.inference.record import Record
from unibench.inference.row import row_of, stored_row
from unibench.kit import certificate as parts
from unibench.kit import standard
from unibench.kit.checkup import Checkup, Finding
from unibench.kit.rules import RULES
from unibench.pruning.record import packed
from unibench.store import CellFolder
from unibench.tasks import Sample
from unibench.tasks.synthvqa import SynthVQA

LIMIT, TOKENS = 12, 16
MINI = standard.Standard(
    "mini", "a suite of the tests", ("tiny_qwen2_5_vl",), "synthvqa", LIMIT, ("0.75",),
    ("divprune",), ("qwen2_5_vl",),
)  # fmt: skip
METHOD = Path(__file__).parent / "_first.py"
OWN = f"{METHOD}:First"
Change = Callable[[Cell, list[Record]], "list[Record] | None"]
Rename = Callable[[Cell], Cell]


@cache
def asked() -> tuple[Sample, ...]:
    return tuple(SynthVQA().samples(2 * LIMIT))


@cache
def cells() -> tuple[Cell, ...]:
    """Every cell of the suite and of the method, vanilla first."""
    found = [*MINI.required(Path("out")), *MINI.cells([f"method={OWN}"], Path("out"))]
    unique = {cell.key: cell for cell in found}.values()
    return tuple(sorted(unique, key=lambda cell: cell.method != "vanilla"))


def name() -> str:
    return registry.method(OWN).name


def is_own(cell: Cell) -> bool:
    return cell.method == name()


def unchanged(cell: Cell, records: list[Record]) -> list[Record]:
    return records


def same_cell(cell: Cell) -> Cell:
    return cell


def records_of(cell: Cell) -> list[Record]:
    """Answers that look measured: right more often the more tokens stay."""
    plain = cell.method == "vanilla" or "control" in cell.identity
    kept = TOKENS if plain else cell.budget.keep(TOKENS)
    mask = torch.arange(TOKENS) < kept
    found = []
    for number, sample in enumerate(asked()[:LIMIT]):
        right = (number + len(cell.method)) % (5 if plain else 3) != 0
        answer = sample.answers[0] if right else "something else"
        found.append(
            record(
                id=sample.id, index=number, ability=sample.ability, group=sample.group,
                truth=sample.answers[0], question=sample.question, answer=answer,
                score=SynthVQA().score(sample, answer), visual_tokens=TOKENS, kept=kept,
                processed=(kept, kept), last=packed(mask), prompt_digest=f"p{number}",
                pixel_digest=f"x{number}", layout=((TOKENS, ((1, 4, 4, "", False),)),),
                method_ms=1.0, prefill_ms=5.0, total_ms=20.0,
            )
        )  # fmt: skip
    return found


def certified(
    folder: Path, change: Change = unchanged, rename: Rename = same_cell, extra: Sequence[Cell] = ()
) -> Path:
    """A certificate; with changed records or cells, whatever follows from them follows.

    Args:
        folder: where it is written.
        change: records of a cell; None leaves the cell out.
        rename: the cell that a cell is said to be, under the key that its identity then has.
        extra: further cells.
    """
    out = folder / parts.CELLS
    for cell in (*cells(), *extra):
        told = rename(cell)
        told = replace(told, key=key_of(told.identity), config=replace(told.config, out=str(out)))
        records = change(cell, records_of(cell))
        if records is not None:
            _finish(told, records)
    _write(folder)
    return folder


def _finish(cell: Cell, records: Sequence[Record]) -> None:
    folder = CellFolder(cell)
    if folder.path.exists():
        shutil.rmtree(folder.path)
    with folder.appending(ENVIRONMENT):
        for one in records:
            folder.append(one.as_json())
    folder.merge()
    vanilla = None if cell.method == "vanilla" else stored_row(vanilla_of(cell))
    folder.finish(row_of(cell, records, [ENVIRONMENT], vanilla, "accuracy").as_json())


def _write(folder: Path) -> None:
    card = registry.method(OWN)
    own = next(cell for cell in cells() if is_own(cell))
    options = {key: value for key, value in own.identity["method"].items() if key != "name"}
    told = parts.method_of(card, own.method, options)
    checked = Checkup(tuple(Finding("qwen2_5_vl", rule, "ok") for rule in RULES), None)
    try:
        parts.write(folder, told, MINI, checked, [METHOD])
    except UsageError:
        # nothing to compare with: somebody would write no tests, and the suite's own words
        parts.write(folder, told, replace(MINI, baselines=()), checked, [METHOD])
        whole = json.loads((folder / parts.CERTIFICATE).read_text())
        whole["suite"]["baselines"] = list(MINI.baselines)
        (folder / parts.CERTIFICATE).write_text(parts.text_of(whole))
        parts.seal(folder)
