"""``store``: looking after results on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unibench import store as results
from unibench.cli.options import taken
from unibench.errors import UsageError, unknown
from unibench.registry import method

ACTIONS = {
    "index": "FOLDER [--json]",
    "verify": "FOLDER",
    "repair": "FOLDER",
    "prune": "FOLDER [--failed] [--partial] [--outdated] [--method=FILE.py:Class] [--yes]",
    "merge": "FROM INTO",
    "export": "FOLDER FILE.tar.gz",
    "import": "FILE.tar.gz FOLDER",
}


def store(words: list[str]) -> int:
    """``store index|verify|repair|prune|merge|export|import ...``; FOLDER is a store or one cell of
    it.
    """
    actions: dict[str, Callable[..., int]] = {
        "index": _index,
        "verify": _verify,
        "repair": _repair,
        "prune": _prune,
        "merge": _merge,
        "export": _export,
        "import": _import,
    }
    if not words:
        raise UsageError(
            "store what? " + "; ".join(f"store {name} {form}" for name, form in ACTIONS.items())
        )
    action, *rest = words
    if action not in actions:
        raise unknown("store action", action, actions)
    known = [word.strip("[]") for word in ACTIONS[action].split() if word.startswith("[--")]
    places, options = taken(
        rest,
        flags=[name for name in known if "=" not in name],
        values={name.partition("=")[0]: str for name in known if "=" in name},
    )
    wanted = [word for word in ACTIONS[action].split() if not word.startswith("[")]
    if len(places) != len(wanted) or any(place.startswith("-") for place in places):
        raise UsageError(f"store {action} takes {ACTIONS[action]}")
    return actions[action](
        *map(Path, places), **({"options": options} if "[" in ACTIONS[action] else {})
    )


def _index(folder: Path, options: dict[str, bool]) -> int:
    entries = results.index(folder)
    if options:
        print(
            json.dumps(
                [{**vars(entry), "folder": str(entry.folder)} for entry in entries], indent=1
            )
        )
        return 0
    for entry in entries:
        print(f"{entry.state:8s} {entry.samples:6d}  {entry.folder}")
    states = Counter(entry.state for entry in entries)
    print(
        f"{len(entries)} cells, {sum(entry.samples for entry in entries)} samples: "
        + ", ".join(f"{n} {name}" for name, n in states.items())
    )
    return 0


def _verify(folder: Path) -> int:
    problems = results.verify(folder)
    for problem in problems:
        print(f"{problem.file}: {problem.what} -> {problem.mend}")
    if not problems:
        print("nothing is damaged")
    return 1 if problems else 0


def _repair(folder: Path) -> int:
    count = results.repair(folder)
    print(
        f"{_counted(count, 'damaged line or file', 'damaged lines and files')} set aside as"
        " *.damaged"
        if count
        else "nothing is damaged"
    )
    return 0


def _prune(folder: Path, options: dict[str, Any]) -> int:
    states = tuple(state for state in ("failed", "partial") if f"--{state}" in options)
    outdated = frozenset[Path]()
    if "--outdated" in options:
        own = [method(name) for name in [options.get("--method")] if name is not None]
        judged = results.judged(folder, [f"{card.path}:{card.class_name}" for card in own])
        outdated = frozenset(judged.outdated)
        for path, why in judged.unknown.items():
            print(f"kept, since it cannot be judged: {path}: {why}")
    found = results.prune(folder, states, outdated=outdated, dry="--yes" not in options)
    for path in found:
        print(path)
    print(
        f"{_counted(len(found), 'folder', 'folders')}"
        f" {'removed' if '--yes' in options else 'would be removed; --yes removes them'}"
    )
    return 0


def _merge(source: Path, into: Path) -> int:
    return _say(results.merge(source, into))


def _export(folder: Path, file: Path) -> int:
    print(f"{_counted(results.export(folder, file), 'cell', 'cells')} in {file}")
    return 0


def _import(file: Path, folder: Path) -> int:
    return _say(results.import_(file, folder))


def _say(merged: results.Merged) -> int:
    print(f"{merged.new} new cells, {merged.grown} grown, {merged.same} as they were")
    for sample in merged.conflicts:
        print(f"{sample}: another answer there; the one here stays")
    return 1 if merged.conflicts else 0


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
