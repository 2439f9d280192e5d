"""``store``: looking after results on disk."""

from __future__ import annotations

import importlib
import json
import math
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from unibench import store as results
from unibench.cli.options import taken
from unibench.cli.terminal import say
from unibench.errors import UsageError, unknown
from unibench.registry import method
from unibench.store.rekey import rekey

ACTIONS = {
    "index": "FOLDER [--json]",
    "verify": "FOLDER",
    "repair": "FOLDER",
    "prune": "FOLDER [--failed] [--partial] [--outdated] [--method=FILE.py:Class] [--yes]",
    "rekey": "FOLDER [--method=FILE.py:Class]",
    "merge": "FROM INTO",
    "export": "FOLDER FILE.tar.gz",
    "import": "FILE.tar.gz FOLDER [--max-size=GiB]",  # that it may unpack to; 4 without it
}
VALUES: dict[str, Callable[[str], Any]] = {"--method=FILE.py:Class": str, "--max-size=GiB": float}


def store(words: list[str]) -> int:
    """``store index|verify|repair|prune|rekey|merge|export|import ...``; FOLDER is a store or one
    cell of it.
    """
    actions: dict[str, Callable[..., int]] = {
        "index": _index,
        "verify": _verify,
        "repair": _repair,
        "prune": _prune,
        "rekey": _rekey,
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
        values={name.partition("=")[0]: VALUES[name] for name in known if "=" in name},
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
        say(f"{entry.state:8s} {entry.samples:6d}  {entry.folder}")
    states = Counter(entry.state for entry in entries)
    say(
        f"{len(entries)} cells, {sum(entry.samples for entry in entries)} samples: "
        + ", ".join(f"{n} {name}" for name, n in states.items())
    )
    return 0


def _verify(folder: Path) -> int:
    problems = results.verify(folder)
    for problem in problems:
        say(f"{problem.file}: {problem.what} -> {problem.mend}")
    if not problems:
        say("nothing is damaged")
    return 1 if problems else 0


def _repair(folder: Path) -> int:
    count = results.repair(folder)
    say(
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
        judged = results.judged(folder, _trusted(options))
        outdated = frozenset(judged.outdated)
        for path, why in judged.unknown.items():
            say(f"kept, since it cannot be judged: {path}: {why}")
    found = results.prune(folder, states, outdated=outdated, dry="--yes" not in options)
    for path in found:
        say(path)
    say(
        f"{_counted(len(found), 'folder', 'folders')}"
        f" {'removed' if '--yes' in options else 'would be removed; --yes removes them'}"
    )
    return 0


def _rekey(folder: Path, options: dict[str, Any]) -> int:
    refused = 0
    runner = importlib.import_module("unibench.runner")
    with closing(runner.Harnessed()) as harnessed:
        executors = {"embedded": runner.Embedded(), "harness": harnessed}
        ask = partial(runner.work, executors=executors)
        for group in rekey(folder, ask, _trusted(options)):
            say(
                f"{group.model} x {group.method} x {group.task}: {len(group.lifted)} of"
                f" {_counted(len(group.cells), 'cell', 'cells')} lifted after asking"
                f" {_counted(group.asked, 'sample', 'samples')} again"
            )
            for path, reason in group.reasons.items():
                say(f"  stays {path}: {reason}")
            refused += len(group.reasons)
    return 1 if refused else 0


def _trusted(options: dict[str, Any]) -> list[str]:
    """Methods in files of the user's own that the command names, so that they may be opened."""
    own = [method(name) for name in [options.get("--method")] if name is not None]
    return [f"{card.path}:{card.class_name}" for card in own]


def _merge(source: Path, into: Path) -> int:
    return _say(results.merge(source, into))


def _export(folder: Path, file: Path) -> int:
    say(f"{_counted(results.export(folder, file), 'cell', 'cells')} in {file}")
    return 0


def _import(file: Path, folder: Path, options: dict[str, Any]) -> int:
    size = options.get("--max-size", results.MAX_SIZE)
    if not 0 < size < math.inf:
        raise UsageError(f"--max-size {size}: GiB that the archive may unpack to, for example 8")
    return _say(results.import_(file, folder, size))


def _say(merged: results.Merged) -> int:
    say(f"{merged.new} new cells, {merged.grown} grown, {merged.same} as they were")
    for sample in merged.conflicts:
        say(f"{sample}: another answer there; the one here stays")
    for cell in merged.refused:
        say(f"refused: {cell}")
    if merged.strays:
        say(f"{_counted(merged.strays, 'file', 'files')} of no cell left out")
    return 1 if merged.conflicts or merged.refused else 0


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
