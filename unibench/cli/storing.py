"""``store``: looking after results on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from unibench import store as results
from unibench.cli.parser import Options
from unibench.compose import typed
from unibench.errors import UsageError
from unibench.identity import cell_of


def index(options: Options) -> int:
    """``store index FOLDER [--json]``."""
    entries = results.index(_path(options.folder))
    if options.json:
        plain = [{**vars(entry), "folder": str(entry.folder)} for entry in entries]
        print(json.dumps(plain, indent=1))
        return 0
    for entry in entries:
        print(f"{entry.state:8s} {entry.samples:6d}  {entry.folder}")
    counts = Counter(entry.state for entry in entries)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    samples = sum(entry.samples for entry in entries)
    print(f"{len(entries)} cells, {samples} samples: {states}")
    return 0


def verify(options: Options) -> int:
    """``store verify FOLDER``: exit code 1 if something is damaged."""
    problems = results.verify(_path(options.folder))
    for problem in problems:
        print(f"{problem.file}: {problem.what} -> {problem.mend}")
    if not problems:
        print("nothing is damaged")
    return 1 if problems else 0


def repair(options: Options) -> int:
    """``store repair FOLDER``."""
    count = results.repair(_path(options.folder))
    damaged = _counted(count, "damaged line or file", "damaged lines and files")
    print(f"{damaged} set aside as *.damaged" if count else "nothing is damaged")
    return 0


def prune(options: Options) -> int:
    """``store prune FOLDER [--failed] [--partial] [--outdated] [--yes]``."""
    folder = _path(options.folder)
    states = tuple(state for state in ("failed", "partial") if getattr(options, state))
    outdated = frozenset(_outdated(folder) if options.outdated else ())
    folders = results.prune(folder, states, outdated=outdated, dry=not options.yes)
    for path in folders:
        print(path)
    done = "removed" if options.yes else "would be removed; --yes removes them"
    print(f"{_counted(len(folders), 'folder', 'folders')} {done}")
    return 0


def merge(options: Options) -> int:
    """``store merge FROM INTO``."""
    return _say(results.merge(_path(options.source), _path(options.into)))


def export(options: Options) -> int:
    """``store export FOLDER FILE.tar.gz``."""
    count = results.export(_path(options.folder), _path(options.file))
    print(f"{_counted(count, 'cell', 'cells')} in {options.file}")
    return 0


def import_(options: Options) -> int:
    """``store import FILE.tar.gz FOLDER``."""
    return _say(results.import_(_path(options.file), _path(options.folder)))


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _say(merged: results.Merged) -> int:
    print(f"{merged.new} new cells, {merged.grown} grown, {merged.same} as they were")
    for sample in merged.conflicts:
        print(f"{sample}: another answer there; the one here stays")
    return 1 if merged.conflicts else 0


def _outdated(folder: Path) -> Sequence[Path]:
    """Cells that the present code and files would not write any more: their configuration has
    another key now.
    """
    found = []
    for cell in results.cells_below(folder):
        try:
            plain = yaml.safe_load((cell / "config.yaml").read_text(encoding="utf-8"))
            if cell_of(typed(plain)).key != cell.name:
                found.append(cell)
        except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError, UsageError):
            found.append(cell)
    return found


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
