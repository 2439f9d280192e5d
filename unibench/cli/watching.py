"""``doctor run=CELL``: did it prune."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unibench import registry
from unibench.cli.parser import COMMAND, Options
from unibench.cli.terminal import console
from unibench.config import HarnessOptions, RunConfig, TaskConfig
from unibench.errors import UsageError, lines_shown, unknown
from unibench.identity import Cell
from unibench.inference.record import Record, stored
from unibench.inference.row import Row, read_row
from unibench.store import read_samples
from unibench.store.cards import cell_in, check_runnable
from unibench.store.index import cells_below

if TYPE_CHECKING:
    from unibench.trace import Finding, Watched

SIGNS = {"ok": "ok   ", "wrong": "WRONG", "note": "     "}


def doctor_run(options: Options) -> int:
    """``doctor run=CELL [sample=ID] [to=FILE] [--files]``: exit code 1 if something is wrong."""
    # out= is a word of the cells of a cluster too, so the parser leaves it among the others
    store = next((word[4:] for word in options.words if word.startswith("out=")), "outputs")
    folder = cell_folder(options.run, store, "run")
    from unibench import trace  # loads torch, which a mistake need not wait for

    row = read_row(folder)
    records = stored(folder, read_samples(folder)[0].values())
    try:
        cell: Cell | None = cell_in(folder)
        why = ""
    except UsageError as error:
        cell, why = None, str(error)
    found = list(trace.of_files(row, records, cell))
    seen = None
    if cell is None:
        found.append(trace.Finding("model", "note", f"not asked again: {why}"))
    elif not options.files:
        more, seen = _asked(options, cell, row, {record.id: record for record in records})
        found += more
    if options.json:
        print(json.dumps({"folder": str(folder), "findings": list(map(asdict, found))}, indent=1))
    else:
        _print(row, found, seen)
    if options.to and seen is not None:
        print(_drawn(Path(options.to).expanduser(), row, seen))
    return int(any(one.state == "wrong" for one in found))


def cell_folder(given: str, store: str, key: str) -> Path:
    """The folder of the finished cell that a word names: itself, or by the first signs of its key.

    Args:
        given: folder or key.
        store: folder of results to look for a key in.
        key: of the command line, for messages.

    Raises:
        UsageError: there is no such cell, or several.
    """
    if not given:
        raise UsageError(f"{key}= needs the folder of a cell, or the first signs of its key")
    folder = Path(given).expanduser()
    if (folder / "metrics.json").is_file():
        return folder
    below = Path(store).expanduser()
    if not below.is_dir():
        raise UsageError(
            f"{key}={given} is no finished cell, and there is no folder {store} to look for its key"
            " in; out=FOLDER names the results"
        )
    cells = {cell.name: cell for cell in cells_below(below) if (cell / "metrics.json").is_file()}
    named = [cell for name, cell in cells.items() if name.startswith(given)]
    if len(named) == 1:
        return named[0]
    if named:
        raise UsageError(f"{key}={given} names {len(named)} cells; give more of the key")
    raise unknown("cell", given, cells, f"{COMMAND} store index {store}")


def _asked(
    options: Options, cell: Cell, row: Row, records: Mapping[str, Record]
) -> tuple[list[Finding], Watched | None]:
    """Ask one sample of the cell again, and look at the model meanwhile."""
    from unibench import trace
    from unibench.inference.session import method_of
    from unibench.models import load
    from unibench.runner.embedded import load_task

    if cell.config.control != "none":
        said = "not asked again: a control changes its prompts"
        return [trace.Finding("model", "note", said)], None
    found = []
    if cell.benchmark is not None:
        said = f"{row.harness} keeps its questions: one of synthvqa is asked"
        found.append(trace.Finding("model", "note", said))
        cell = replace(cell, config=_drawn_task(cell))
    check_runnable(cell.config)
    task = load_task(cell)
    loaded = load(cell.config.model, cell.config.pixels)
    try:
        seen = trace.watched(cell, loaded, task, options.sample)
    except LookupError:
        raise UsageError(
            f"sample={options.sample}: task {cell.config.task.name} has no such sample; the first"
            f" of this cell is {next(iter(records))}"
        ) from None
    # a drawn question is none of the harness's, whose records it is not compared with
    known = {} if found else records
    return [*found, *trace.of_model(seen, cell, method_of(cell), known)], seen


def _drawn_task(cell: Cell) -> RunConfig:
    """The configuration with a drawn question in place of a harness's."""
    task = TaskConfig(name="synthvqa", target=registry.task("synthvqa").target, limit=1)
    # nothing of the harness is started, so neither its interpreter nor its judge matters
    return replace(cell.config, task=task, harness="auto", harness_options=HarnessOptions())


def _print(row: Row, found: list[Finding], seen: Watched | None) -> None:
    screen = console()
    screen.print(
        lines_shown(f"{row.model} x {row.label} {row.budget} x {row.task}: {row.folder}"),
        soft_wrap=True,
    )
    for one in found:
        screen.print(
            f"{SIGNS[one.state]} {one.what:13s} {lines_shown(one.said)}",
            soft_wrap=True,
        )
    if seen is not None:
        _print_layers(seen)


def _print_layers(seen: Watched) -> None:
    """A line for each run of layers that are alike: what enters, stands where, and is read."""
    from unibench.cli.terminal import new_table, print_table

    last = seen.forwards[-1].keys if len(seen.forwards) > 1 else {}
    heads = (
        "layers",
        "tokens in",
        "visual",
        "kept stand",
        "cache",
        "keys at the last step",
        "answer stands",
    )
    table = new_table(f"a prompt of {seen.length} tokens ({seen.record.id})", heads)
    lines: list[tuple[int, tuple[str, ...]]] = []
    for layer, count in sorted(seen.prefill.entered.items()):
        cache = seen.prefill.cache
        line = (
            str(count),
            str(count - seen.record.text_tokens),
            seen.places.get(layer, "-"),
            str(cache[layer]) if layer < len(cache) else "-",
            str(last.get(layer, "-")),
            seen.steps.get(layer, "-"),
        )
        if not lines or lines[-1][1] != line:
            lines.append((layer, line))
    ends = [*(start - 1 for start, _ in lines[1:]), max(seen.prefill.entered)]
    for (start, words), end in zip(lines, ends, strict=True):
        table.add_row(str(start) if start == end else f"{start} to {end}", *words)
    print_table(table)


def _drawn(path: Path, row: Row, seen: Watched) -> Path:
    from unibench.plots.layers import layers

    last = seen.forwards[-1].keys if len(seen.forwards) > 1 else {}
    return layers(
        path,
        f"{row.model} x {row.label} {row.budget}: {seen.record.id}",
        [row.model],
        text=seen.record.text_tokens,
        visual=seen.visual,
        whole=seen.record.visual_tokens,
        keys=[last[layer] for layer in sorted(last)],
    )
