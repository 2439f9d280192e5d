"""``store list``, ``show``, ``diff`` and ``why``: which cells there are, and how they differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from unibench.cli.parser import Options
from unibench.cli.terminal import new_table, print_table, say
from unibench.errors import UsageError, shown, unknown
from unibench.store.data import read_text
from unibench.store.files import read_json
from unibench.store.index import cells_below
from unibench.store.listing import (
    Differing,
    Listed,
    cell_named,
    differing,
    environments,
    listed,
    nearest_cells,
)

COLUMNS = tuple(field.name for field in fields(Listed) if field.name != "folder")
NEAREST = 3  # cells that `why` compares
RESULT = ("score_100", "n", "kept_mean", "tflops", "prefill_ms", "drop_pct")


def list_(options: Options) -> int:
    """``store list FOLDER [key=value ...] [sort=COLUMN] [--json]``."""
    found = listed(_path(options.folder), options.filters)
    if options.sort:
        found = _sorted(found, options.sort)
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return 0
    table = new_table(None, COLUMNS)
    for one in found:
        table.add_row(*(_cell(getattr(one, name)) for name in COLUMNS))
    print_table(table, keys=1, sentence=True)
    say(f"{len(found)} cell{'' if len(found) == 1 else 's'}")
    return 0


def _sorted(found: Sequence[Listed], sort: str) -> list[Listed]:
    column = sort.removeprefix("-")
    if column not in COLUMNS:
        raise unknown("column", column, COLUMNS, "sort=score, sort=-score for the largest first")
    known = [one for one in found if getattr(one, column) is not None]
    rest = [one for one in found if getattr(one, column) is None]
    known.sort(key=lambda one: getattr(one, column), reverse=sort.startswith("-"))
    return known + rest


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def show(options: Options) -> int:
    """``store show FOLDER KEY [--json]``."""
    cell = cell_named(_path(options.folder), options.key)
    identity, row = read_json(cell / "identity.json"), read_json(cell / "metrics.json")
    try:
        configuration = read_text(cell / "config.yaml")
    except (OSError, UsageError) as error:
        configuration = f"# cannot be read: {shown(error)}\n"
    if options.json:
        found = {"folder": str(cell), "configuration": configuration, "identity": identity}
        print(json.dumps({**found, "environments": environments(cell), "row": row}, indent=1))
        return 0
    say(f"# {cell}")
    say(configuration.rstrip())
    for number, run in enumerate(environments(cell)):
        say(f"\n# run {number}")
        for name, value in run.items():
            say(f"{name}: {json.dumps(value)}")
    code = identity.get("code", {}) if isinstance(identity, dict) else {}
    say("\n# digests of the code that made it")
    for name, digest in code.items() if isinstance(code, dict) else ():
        say(f"{name}: {shown(digest)}")
    if isinstance(row, dict):
        say("\n# result")
        for name in RESULT:
            say(f"{name}: {shown(row.get(name))}")
    return 0


def diff(options: Options) -> int:
    """``store diff FOLDER A B [--json]``."""
    folder = _path(options.folder)
    first, second = (cell_named(folder, name) for name in (options.first, options.second))
    found = {
        "identity": _of_files(first, second, "identity.json"),
        "environment": differing(_last(first), _last(second)),
        "result": [one for one in _of_files(first, second, "metrics.json") if one.entry in RESULT],
    }
    effect = _effect(first, second)
    if options.json:
        plain = {name: [asdict(one) for one in part] for name, part in found.items()}
        print(json.dumps({**plain, "answers": effect}, indent=1))
        return 0
    for name, part in found.items():
        say(f"{name}: {'the same' if not part else ''}")
        _print(part)
    if effect is None:
        say("answers: not compared, since one of the two is not done")
    else:
        say(
            f"answers: {effect['same']} of {effect['both']} the same;"
            f" {effect['won']} won and {effect['lost']} lost by the second"
        )
    return 0


def _of_files(first: Path, second: Path, name: str) -> list[Differing]:
    return differing(read_json(first / name) or {}, read_json(second / name) or {})


def _last(cell: Path) -> dict[str, Any]:
    runs = environments(cell)
    return runs[-1] if runs else {}


def _effect(first: Path, second: Path) -> dict[str, int] | None:
    """What two cells answered alike, and otherwise."""
    from unibench import frame  # loads pandas

    try:
        one, two = frame.answers(first), frame.answers(second)
    except UsageError:
        return None
    both = [(answer, two[name]) for name, answer in one.items() if name in two]
    return {
        "both": len(both),
        "same": sum(a.answer == b.answer for a, b in both),
        "won": sum(a.score < b.score for a, b in both),
        "lost": sum(a.score > b.score for a, b in both),
    }


def _print(found: Sequence[Differing]) -> None:
    for one in found:
        say(f"  {shown(one.entry)}: {_brief(one.first)} -> {_brief(one.second)}")


def _brief(value: Any) -> str:
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def why(options: Options) -> int:
    """``store why key=value ... [out=outputs]``: exit code 1 if the cell is not there."""
    from unibench.cli.grid import Grid

    cells = Grid(options).cells
    missing = 0
    for cell in cells:
        if (cell.folder / "metrics.json").exists():
            say(f"{cell.title}: it is there, {cell.folder}")
            continue
        missing += 1
        say(f"{cell.title}: {cell.key} is not there")
        out = Path(cell.config.out)
        there = list(cells_below(out)) if out.is_dir() else []
        finished = [one for one in there if (one / "metrics.json").exists()]
        for place, found in nearest_cells(cell.identity, finished)[:NEAREST]:
            say(f" {place.name} differs in {len(found)} (there -> asked for):")
            _print(found)
    return 1 if missing else 0


def _path(text: str) -> Path:
    return Path(text).expanduser()
