"""What was found, as pages: all of them are there from the first second on, and whole at any."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._report import short, table

if TYPE_CHECKING:  # models and transformers stand behind these, which no page needs
    from benchmarks.gpu.board import Measured, Row, Spread
    from benchmarks.gpu.golden import Compared
    from benchmarks.gpu.grid import Grid
    from benchmarks.gpu.invariants import Finding
    from benchmarks.gpu.loops import Timed
    from benchmarks.gpu.machine import Machine, State
    from benchmarks.gpu.plan import Block

NONE_LENT = (
    "No GPU was lent to the session that made this page: nothing was measured, and nothing is"
    " claimed. [docs/gpu.md](../../docs/gpu.md) says how to run it on yours."
)
DRY = (
    "**A dry run at reduced size, on a processor: it shows that the script works. No number here"
    " is a measurement of a GPU.**"
)
UNFINISHED = "Not measured: the time was over before, or the run was stopped."
LIMIT = 8  # files: a machine that is lent may hand back no more
UNITS = 8  # last places of the largest logit by which two orders of summation may differ


@dataclass
class Found:
    """Everything that a run has found so far.

    Attributes:
        machine: where; None: there was no GPU, and nothing was tried.
        command: that was given.
        dry: whether sizes are reduced.
        ended: how the run ended; empty while it goes on.
        findings: of the engine's rules.
        compared: golden cases.
        blocks: of the board, as far as they were measured.
        grids: answered together.
        timed: loops and signals alone.
        states: of the device.
        kernels: of a prefill, by model.
        failed: steps that ended with an error.
    """

    machine: Machine | None
    command: str
    dry: bool = False
    ended: str = ""
    findings: list[Finding] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    blocks: list[tuple[Block, Measured]] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    timed: list[Timed] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    kernels: dict[str, Sequence[str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """All rows of the board."""
        return [row for _, measured in self.blocks for row in measured.rows]


def write(found: Found, folder: Path) -> list[Path]:
    """All pages of a run, each in one step: who reads one while the run goes on, or after it was
    killed, reads a whole one.
    """
    pages = {
        "README.md": _summary(found),
        "correctness.md": _correctness(found),
        "board.md": _board(found),
        "loops.md": _loops(found),
        "grid.md": _grids(found),
        "machine.md": _machine(found),
    }
    assert len(pages) + 1 <= LIMIT
    texts = {
        name: "\n".join([*_head(found), *lines, *_foot(found)]) for name, lines in pages.items()
    }
    texts["rows.json"] = json.dumps([asdict(row) for row in found.rows], indent=1) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in texts.items():
        place, fresh = folder / name, folder / f".{name}.new"
        fresh.write_text(text, encoding="utf-8")
        # a rename replaces the old page or leaves it, whenever the process ends
        os.replace(fresh, place)
        written.append(place)
    return written


def _head(found: Found) -> list[str]:
    return [DRY, ""] if found.dry else []


def _foot(found: Found) -> list[str]:
    where = [] if found.machine is None else [str(found.machine), ""]
    state = [] if found.machine is None else [found.ended or "The run goes on, or was killed.", ""]
    return ["", *where, *state, f"    {found.command}", ""]


def _summary(found: Found) -> list[str]:
    lines = ["# On a GPU", ""]
    if found.machine is None:
        return [*lines, NONE_LENT]
    lines += [
        "| page | what |",
        "| --- | --- |",
        "| [correctness.md](correctness.md) | the engine's rules in half precision, golden cases |",
        "| [board.md](board.md) | times, memory and operations of every method |",
        "| [loops.md](loops.md) | greedy loops and attention signals, two ways |",
        "| [grid.md](grid.md) | a grid of methods answered together |",
        "| [machine.md](machine.md) | clocks, power, driver, kernels |",
        "| rows.json | the rows of the board |",
        "",
        *_targets(found.rows),
    ]
    return lines


def _targets(rows: Sequence[Row]) -> list[str]:
    """What the board was made to show, as far as there are rows of it."""
    ratios = [row.speedup.middle / row.predicted for row in rows if row.batch == 8 and row.kind]
    vanilla = {
        (row.model, row.shown, row.batch, row.ratio): row for row in rows if row.method == "vanilla"
    }
    shares, memory = [], []
    for row in rows:
        base = vanilla.get((row.model, row.shown, row.batch, row.ratio))
        if base is None or not row.kind:
            continue
        loops = row.way == "at once" or not _has_other_way(row, rows)
        if row.one_shot and row.tokens == 2691 and loops:
            shares.append(row.selection.middle / base.prefill.middle)
        if "attention" in row.kind and loops:
            memory.append(row.peak_mib / base.peak_mib)
    wanted = [
        ("measured / predicted speed-up of the prefill at batch 8, least", ratios, min, ">= 0.9"),
        ("selection / vanilla's prefill at 2,691 tokens, most", shares, max, "<= 0.05"),
        ("peak memory of attention methods / vanilla's, most", memory, max, "<= 1.02"),
    ]
    lines = [
        [what, short(pick(values)) if values else "-", limit, str(len(values))]
        for what, values, pick, limit in wanted
    ]
    return table(["what", "found", "wanted", "rows"], lines)


def _has_other_way(row: Row, rows: Sequence[Row]) -> bool:
    key = (row.model, row.shown, row.batch, row.ratio, row.method)
    return any(
        (one.model, one.shown, one.batch, one.ratio, one.method) == key and one.way == "at once"
        for one in rows
    )


def _correctness(found: Found) -> list[str]:
    lines = ["# Correctness on a GPU", ""]
    if found.machine is None:
        return [*lines, NONE_LENT]
    lines += ["## Golden cases", ""]
    rows = [
        [
            f"{one.device}, {one.way}",
            str(one.equal),
            str(len(one.unlike)),
            str(one.own),
            str(one.left),
        ]
        for one in found.compared
    ]
    heads = [
        "device and loops",
        "picks equal the CPU's",
        "unlike",
        "compare themselves",
        "not asked",
    ]
    lines += table(heads, rows) if rows else [UNFINISHED]
    lines += [f"- {text}" for one in found.compared for text in one.unlike]
    lines += [
        "",
        "## Rules of the engine",
        "",
        (
            "Published width with random weights, a few layers; kernels are forced by name. *no"
            " kernel*: torch has none of that name for these shapes, heads or masks. Other kernels"
            f" and orders of summation may differ by {UNITS} last places of the largest logit;"
            " rules of bits by none."
        ),
        "",
    ]
    wrong = [one for one in found.findings if one.verdict == "fails"]
    lines += _verdicts(found.findings) if found.findings else [UNFINISHED]
    if wrong:
        lines.append("")
    return lines + [
        f"- {one.model}, {one.dtype}, {one.kernel}: {one.rule}: {one.detail}" for one in wrong
    ]


def _verdicts(findings: Sequence[Finding]) -> list[str]:
    rules = list(dict.fromkeys(one.rule for one in findings))
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for one in findings:
        places = one.detail.rpartition(", ")[2] if one.verdict == "holds" else ""
        said = one.verdict + (f" ({places})" if places.endswith("places") else "")
        cells.setdefault((one.model, one.dtype, one.kernel), {})[one.rule] = said
    rows = [
        [", ".join(key), *(verdicts.get(rule, "-") for rule in rules)]
        for key, verdicts in cells.items()
    ]
    return table(["model, precision, kernel", *rules], rows)


def _board(found: Found) -> list[str]:
    lines = ["# Cost board", ""]
    if found.machine is None:
        return [*lines, NONE_LENT]
    lines += [
        (
            f"Random weights, {'float32' if found.dry else 'bfloat16'}, SDPA's flash kernel"
            " wherever it serves. Milliseconds of the"
            " batch: median (quartiles), all rows of a table in turn; speed-ups of the prefill are"
            " medians of ratios to vanilla within a repeat, *by FLOPs* what operations predict."
            " *at once*: greedy loops as one kernel, attention received by the log-sum-exp."
            " *resize*: a smaller picture without a method. Prefill contains vision and selection."
        ),
        "",
    ]
    if not found.blocks:
        return [*lines, UNFINISHED]
    for block, measured in found.blocks:
        lines += [f"## {_title(block, measured)}", ""]
        lines += _rows(measured.rows) if measured.rows else [UNFINISHED]
        remarks = [*measured.remarks, *_notes(measured.rows)]
        lines += ["", *(f"- {text}" for text in remarks), ""]
    return lines


def _title(block: Block, measured: Measured) -> str:
    tokens = f", {measured.rows[0].tokens} visual tokens" if measured.rows else ""
    return f"{block.model}, {block.shown}{tokens}, batch {block.batch}, ratio {block.ratio}"


def _rows(rows: Sequence[Row]) -> list[str]:
    base = next(row for row in rows if row.method == "vanilla")
    lines = []
    for row in rows:
        lines.append(
            [
                row.method + (" (at once)" if row.way == "at once" else ""),
                row.kind or "-",
                str(row.kept),
                *map(_spread, (row.total, row.vision, row.prefill, row.selection, row.decode)),
                f"{100 * row.selection.middle / base.prefill.middle:.1f} %",
                _spread(row.speedup),
                short(row.predicted),
                short(row.tflops),
                short(row.peak_mib),
                short(row.kv_mib),
                str(row.repeats),
            ]
        )
    heads = [
        *("method", "reads", "kept", "total", "vision", "prefill", "selection", "decode / token"),
        *("selection, of vanilla's prefill", "prefill speed-up", "by FLOPs", "TFLOP"),
        *("peak MiB", "KV MiB", "repeats"),
    ]
    return table(heads, lines)


def _spread(one: Spread) -> str:
    return f"{short(one.middle)} ({short(one.low)}-{short(one.high)})"


def _notes(rows: Sequence[Row]) -> list[str]:
    return sorted({f"{row.method}: {note}" for row in rows for note in row.notes})


def _loops(found: Found) -> list[str]:
    lines = ["# Greedy loops and attention signals", ""]
    if found.machine is None:
        return [*lines, NONE_LENT]
    lines += [
        (
            "Each alone, its input at hand. *plain*: a loop of small steps, or the map in chunks of"
            " queries. *at once*: one Triton kernel for the whole loop"
            " (unibench/ops/one_kernel.py), or the log-sum-exp of SDPA's flash operator"
            " (unibench/ops/received.py, one_pass.py). A ninth is kept. Milliseconds, median"
            " (quartiles); MiB beside the input. A dash: no such way here."
        ),
        "",
    ]
    rows = [
        [
            f"{one.name}, {one.count}",
            _spread(one.plain),
            "-" if one.other is None else _spread(one.other),
            "-" if one.other is None else short(one.plain.middle / one.other.middle),
            f"{one.plain_mib:.1f}",
            "-" if one.other_mib is None else f"{one.other_mib:.1f}",
            one.alike,
        ]
        for one in found.timed
    ]
    heads = [
        *("what, tokens", "plain ms", "at once ms", "plain / at once"),
        *("plain MiB", "at once MiB", "picks, or greatest difference"),
    ]
    return lines + (table(heads, rows) if rows else [UNFINISHED])


def _grids(found: Found) -> list[str]:
    lines = ["# A grid answered together", ""]
    if found.machine is None:
        return [*lines, NONE_LENT]
    if not found.grids:
        return [*lines, UNFINISHED]
    rows = [
        [
            f"{one.model}, {one.shown}, {one.cells} cells",
            *map(_spread, (one.vanilla, one.one_by_one, one.together)),
            short(one.one_by_one.middle / one.together.middle),
            short(one.together.middle / one.vanilla.middle),
            f"{one.equal} of {one.cells}",
        ]
        for one in found.grids
    ]
    heads = [
        *("grid", "vanilla ms", "cell by cell ms", "together ms"),
        *("cell by cell / together", "together / vanilla", "equal answers"),
    ]
    reasons = [f"- {text}" for one in found.grids for text in one.left_out]
    return [*lines, *table(heads, rows), "", *reasons]


def _machine(found: Found) -> list[str]:
    lines = ["# The machine", ""]
    if found.machine is None:
        return [*lines, NONE_LENT]
    with_values = [one for one in found.states if one.values]
    if with_values:
        heads = ["when", *(name for name, _ in with_values[0].values)]
        lines += table(heads, [[one.when, *(v for _, v in one.values)] for one in with_values])
    else:
        lines.append("nvidia-smi is not here: clocks and power are not known.")
    if found.failed:
        lines += ["", "## What failed", "", *(f"- {text}" for text in found.failed)]
    for what, names in found.kernels.items():
        lines += [
            "",
            f"## Kernels of a prefill of {what}, by time",
            "",
            *(f"- `{name}`" for name in names),
        ]
    return lines
