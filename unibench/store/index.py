"""What a folder of results holds. Nothing is kept beside the cells, so nothing can disagree with
them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unibench.errors import UsageError
from unibench.store.claim import Watch, holder
from unibench.store.files import disk_errors, read_json
from unibench.store.folder import DamagedError, read_row, read_samples

FEATURES = ".features"  # vision features on disk, see unibench.inference.features


@dataclass(frozen=True)
class Entry:
    """One cell of a store.

    Attributes:
        folder: where it lies.
        state: done, failed, partial or damaged.
        samples: answered ones.
        row: of a done cell.
    """

    folder: Path
    state: str
    samples: int
    row: dict[str, Any] | None


def cells_below(folder: Path) -> Iterator[Path]:
    """The folders of cells in ``folder``, which may itself be one.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder; give the folder of results (outputs) or of one cell in it"
        )
    for path, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        if "identity.json" in files or "samples.jsonl" in files or "metrics.json" in files:
            names.clear()
            yield Path(path)


def index(folder: Path) -> list[Entry]:
    """Every cell of a store, read from the cells themselves."""
    return [entry_of(cell) for cell in cells_below(folder)]


def entry_of(folder: Path) -> Entry:
    """State of one cell."""
    row, status = read_row(folder), read_json(folder / "status.json")
    if row is not None:
        return Entry(folder, "done", row["n"], row)
    try:
        count = len(read_samples(folder)[0])
    except DamagedError:
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
        entry.folder for entry in index(folder) if entry.state in states or entry.folder in outdated
    ]
    found = [cell for cell in found if holder(cell, watch) is None]
    found += [features for features in [folder / FEATURES] if features.is_dir()]
    for path in found if not dry else ():
        _remove(path)
    return found


def _remove(folder: Path) -> None:
    """Remove a folder so that nobody sees a part of it, and then its parent if that is left
    empty.
    """
    with disk_errors(folder):
        gone = Path(tempfile.mkdtemp(prefix=".removed-", dir=folder.parent))
        folder.rename(gone / folder.name)
        shutil.rmtree(gone)
        if folder.name != FEATURES and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
