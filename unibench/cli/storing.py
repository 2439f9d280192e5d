"""``store``: looking after results on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from unibench import registry
from unibench import store as results
from unibench.cli.parser import Options
from unibench.cli.terminal import say
from unibench.errors import UsageError
from unibench.store.listing import failure_of, listed


def index(options: Options) -> int:
    """``store index FOLDER [--json]``."""
    folder = _path(options.folder)
    found = _with_verified(folder)
    if options.json:
        plain = [{**vars(entry), "folder": str(entry.folder)} for entry in found]
        print(json.dumps(plain, indent=1))
        return 0
    counts, samples = Counter[str](), 0
    for entry in found:
        why = f": {entry.fault}" if entry.fault else ""
        say(f"{entry.state:8s} {entry.samples:6d}  {entry.folder}{why}")
        counts[entry.state] += 1
        samples += entry.samples
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    say(f"{counts.total()} cells, {samples} samples: {states}")
    return 0


def _with_verified(folder: Path) -> Iterator[results.Entry]:
    """The cells of a store, those damaged that its last check found so."""
    from unibench import frame, row_index  # loads pandas

    found = frame.verified(folder) if row_index.exists(folder) else {}
    for entry in results.entries(folder):
        if entry.folder in found and not entry.fault:
            entry = replace(entry, state="damaged", row=None, fault=found[entry.folder])
        yield entry


def verify(options: Options) -> int:
    """``store verify FOLDER [--score FILE.py:function]``: exit code 1 if something is damaged."""
    from unibench import frame  # loads pandas
    from unibench.recheck import recheck

    folder = _path(options.folder)
    file, _, function = (options.score or "").rpartition(":")
    if options.score is not None and not (function.isidentifier() and _path(file).is_file()):
        raise UsageError(
            f"--score {options.score}: the function of a file is wanted, ./mine.py:close; the file"
            " is not there, or the function has no name"
        )
    trusted = [f"{_path(file).absolute()}:{function}"] if file else []
    checked = recheck(folder, trusted)
    frame.note(folder, checked.damaged)
    problems = checked.problems
    if checked.unsealed:
        older = _counted(len(checked.unsealed), "cell", "cells")
        say(f"{older} of an earlier version: no manifest of their files, rows recomputed")
    for reason, count in Counter(checked.unverified.values()).items():
        say(f"scores of {_counted(count, 'cell', 'cells')} not verified: {reason}")
    for problem in problems:
        say(f"{problem.file}: {problem.what} -> {problem.mend}")
    if not problems:
        say("nothing is damaged")
    return 1 if problems else 0


def repair(options: Options) -> int:
    """``store repair FOLDER``."""
    count = results.repair(_path(options.folder))
    damaged = _counted(count, "damaged line or file", "damaged lines and files")
    say(f"{damaged} set aside as *.damaged" if count else "nothing is damaged")
    return 0


def prune(options: Options) -> int:
    """``store prune FOLDER [--failed] [--partial] [--outdated] [--yes]
    [--method FILE.py:Class]``.
    """
    folder = _path(options.folder)
    states = tuple(state for state in ("failed", "partial") if getattr(options, state))
    outdated = frozenset[Path]()
    if options.outdated:
        judged = results.judged(folder, _trusted(options))
        outdated = frozenset(judged.outdated)
        for path, why in judged.unknown.items():
            say(f"kept, since it cannot be judged: {path}: {why}")
    folders = results.prune(folder, states, outdated=outdated, dry=not options.yes)
    for path in folders:
        error = "" if options.yes else failure_of(path)  # what is removed cannot be read
        say(f"{path}: {error}" if error else path)
    done = "removed" if options.yes else "would be removed; --yes removes them"
    say(f"{_counted(len(folders), 'folder', 'folders')} {done}")
    return 0


def rekey(options: Options) -> int:
    """``store rekey FOLDER [--method FILE.py:Class]``: exit code 1 if a cell stays."""
    from unibench.runner import Embedded, Executor, Harnessed, Served, work  # loads torch
    from unibench.store.rekey import rekey as lift

    stay = 0
    with closing(Harnessed()) as harnessed, closing(Served(harnessed)) as served:
        executors: dict[str, Executor] = {
            "embedded": Embedded(),
            "harness": harnessed,
            "served": served,
        }
        ask = partial(work, executors=executors)
        for group in lift(_path(options.folder), ask, _trusted(options)):
            cells = _counted(len(group.cells), "cell", "cells")
            samples = _counted(group.asked, "sample", "samples")
            say(
                f"{group.model} x {group.method} x {group.task}: {len(group.lifted)} of {cells}"
                f" lifted after asking {samples} again"
            )
            for path, reason in group.reasons.items():
                say(f"  stays {path}: {reason}")
            stay += len(group.reasons)
    return 1 if stay else 0


def merge(options: Options) -> int:
    """``store merge FROM INTO``."""
    return _say(results.merge(_path(options.source), _path(options.into)))


def export(options: Options) -> int:
    """``store export FOLDER FILE.tar.gz [key=value ...]``."""
    folder, wanted = _path(options.folder), None
    if options.filters:
        wanted = {Path(one.folder) for one in listed(folder, options.filters)}
    count = results.export(folder, _path(options.file), wanted)
    say(f"{_counted(count, 'cell', 'cells')} in {options.file}")
    return 0


def import_(options: Options) -> int:
    """``store import FILE.tar.gz FOLDER [--max-size GiB]``."""
    file, folder = _path(options.file), _path(options.folder)
    return _say(results.import_(file, folder, options.max_size or results.MAX_SIZE))


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _say(merged: results.Merged) -> int:
    say(f"{merged.new} new cells, {merged.grown} grown, {merged.same} as they were")
    for sample in merged.conflicts:
        say(f"{sample}: another answer there; the one here stays")
    for cell in merged.refused:
        say(f"refused: {cell}")
    if merged.strays:
        say(f"{_counted(merged.strays, 'file', 'files')} of no cell left out")
    return 1 if merged.conflicts or merged.refused else 0


def _trusted(options: Options) -> list[str]:
    """Methods in files of the user's own that the command names, so that they may be opened."""
    if options.method is None:
        return []
    card = registry.method(options.method)
    return [f"{card.path}:{card.class_name}"]


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
