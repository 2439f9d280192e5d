"""What a folder of results holds. Nothing is kept beside the cells, so nothing can disagree with
them.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unibench.errors import UsageError
from unibench.store import manifest
from unibench.store.claim import Watch, holder
from unibench.store.files import disk_errors, read_json
from unibench.store.folder import count_samples, read_row
from unibench.store.index import FEATURES, REMOVED, cells_below, sweep


@dataclass(frozen=True)
class Entry:
    """One cell of a store.

    Attributes:
        folder: where it lies.
        state: done, failed, partial or damaged.
        samples: answered ones.
        row: of a done cell.
        fault: why a finished cell counts as damaged.
    """

    folder: Path
    state: str
    samples: int
    row: dict[str, Any] | None
    fault: str = ""


def index(folder: Path) -> list[Entry]:
    """Every cell of a store, read from the cells themselves."""
    return list(entries(folder))


def entries(folder: Path) -> Iterator[Entry]:
    """The same one by one: the rows of 50,000 cells are a gigabyte."""
    return map(entry_of, cells_below(folder))


def entry_of(folder: Path) -> Entry:
    """State of one cell; damaged if a file that says what it is cannot be read, or one of a
    finished cell is not as it was.
    """
    row, status = read_row(folder), read_json(folder / "status.json")
    # lexists: a dangling link in its place is damage too
    torn = row is None and os.path.lexists(folder / "metrics.json")
    if torn or not isinstance(read_json(folder / "identity.json"), dict):
        return Entry(folder, "damaged", 0, None)
    if row is not None:
        fault = manifest.changed(folder)
        if fault is not None:
            return Entry(folder, "damaged", row["n"], None, fault)
        return Entry(folder, "done", row["n"], row)
    try:
        count = count_samples(folder)
    except UsageError:
        return Entry(folder, "damaged", 0, None)
    failed = isinstance(status, dict) and status.get("state") == "failed"
    return Entry(folder, "failed" if failed else "partial", count, None)


def prune(
    folder: Path, states: tuple[str, ...], *, outdated: frozenset[Path] = frozenset(), dry: bool
) -> list[Path]:
    """Remove cells that nobody works on, and the vision features of the store.

    Args:
        folder: of results.
        states: of cells to remove.
        outdated: further cells to remove.
        dry: only say what would go.

    Returns:
        What was (would be) removed.
    """
    watch = Watch()
    found = [
        entry.folder
        for entry in entries(folder)
        if entry.state in states or entry.folder in outdated
    ]
    found = [cell for cell in found if holder(cell, watch) is None]
    found += [features for features in [folder / FEATURES] if features.is_dir()]
    if not dry:
        sweep(folder)
        for path in found:
            _remove(path)
    return found


def _remove(folder: Path) -> None:
    """Remove a folder so that nobody sees a part of it, and then its parent if that is left
    empty.
    """
    with disk_errors(folder):
        gone = folder.with_name(f"{REMOVED}{secrets.token_hex(8)}")
        folder.rename(gone)
        if gone.is_symlink():  # what it points to is not the store's
            gone.unlink()
        else:
            shutil.rmtree(gone, ignore_errors=True)
        if folder.name != FEATURES and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
