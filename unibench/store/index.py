"""What a folder of results holds. Nothing is kept beside the cells, so nothing can disagree with
them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unibench.errors import UsageError
from unibench.identity import READABLE
from unibench.store.claim import Watch, holder
from unibench.store.data import shown
from unibench.store.files import disk_errors, read_json
from unibench.store.folder import DamagedError, read_row, read_samples

FEATURES = ".features"  # vision features on disk, see unibench.inference.features
STAGING, REMOVED = ".import-", ".removed-"  # folders of work that is not done yet
CELL_FILES = ("identity.json", "samples.jsonl", "metrics.json")  # a folder with one is a cell
_STALE = 3600.0  # seconds after which a folder of half-done work that nobody claimed is a leftover


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
    """The folders of cells in ``folder``, which may itself be one: what every reader goes by.

    Nothing hidden is a cell: half-done work lies in hidden folders. Links to folders are not
    followed; :func:`unibench.store.verify` names them.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder; give the folder of results (outputs) or of one cell in it"
        )
    for path, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        if any(name in CELL_FILES or name.startswith("samples-") for name in files):
            names.clear()
            yield Path(path)


def key_of(identity: Mapping[str, Any]) -> str:
    """The key that an identity hashes to; the name of the cell's folder.

    Raises:
        ValueError: it holds what JSON cannot say.
    """
    try:
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity_fault(cell: Path) -> str | None:
    """Why a folder is not the cell that its name says; None if it is."""
    identity = read_json(cell / "identity.json")
    if not isinstance(identity, dict):
        return "its identity.json is missing or cannot be read"
    schema = identity.get("schema")
    if type(schema) is not int or schema not in READABLE:
        known = " and ".join(map(str, READABLE))
        return f"its identity.json has schema {shown(schema)}; this unibench reads {known}"
    key = key_of(identity)
    return None if key == cell.name else f"its identity hashes to {key}, not to the folder's name"


def leftovers(folder: Path) -> list[Path]:
    """What killed commands left in a store: half-done folders that nobody works on any more."""
    watch, found = Watch(), []
    for path, names, _ in os.walk(folder):
        half = [Path(path, name) for name in names if name.startswith((STAGING, REMOVED))]
        found += [place for place in half if _is_left(place, watch)]
        names[:] = [name for name in names if not name.startswith(".")]
    return sorted(found)


def sweep(folder: Path) -> list[Path]:
    """Remove :func:`leftovers`; returns them. Every command that writes to a store begins so."""
    found = leftovers(folder)
    for place in found:
        shutil.rmtree(place, ignore_errors=True)
    return found


def _is_left(place: Path, watch: Watch) -> bool:
    """Whether a folder of half-done work has no worker: a claim in it says so, or its age."""
    if any(place.glob("claim-*")):
        return holder(place, watch) is None
    with suppress(OSError):
        # an hour is far more than the clocks of two machines differ by
        return place.name.startswith(REMOVED) or time.time() - place.stat().st_mtime > _STALE
    return False


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
