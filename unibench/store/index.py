"""Which folders of a store are cells, and which are the leftovers of commands that were killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from unibench.errors import UsageError
from unibench.identity import READABLE
from unibench.store.claim import Watch, holder
from unibench.store.data import shown
from unibench.store.files import read_json

FEATURES = ".features"  # vision features on disk, see unibench.inference.features
STAGING, REMOVED = ".import-", ".removed-"  # folders of work that is not done yet
CELL_FILES = ("identity.json", "samples.jsonl", "metrics.json")  # a folder with one is a cell
WHOLE = (
    *CELL_FILES,
    "config.yaml",
    "env.json",
    "status.json",
    "harness.json",
    "manifest.json",
    "split",
)
ASIDE = (
    "claim-",
    ".index.parquet.",
    ".index-scores.parquet.",
)  # files whose writers may work elsewhere
_STALE = 3600.0  # seconds after which a folder of half-done work that nobody claimed is a leftover


@dataclass(frozen=True)
class Seen:
    """A folder of a store that is a cell, or that nobody can tell.

    Attributes:
        place: below the store, ``""`` for the store itself.
        fault: why it cannot be read; empty for a cell.
    """

    place: str
    fault: str = ""


def cells_below(folder: Path) -> Iterator[Path]:
    """The folders of cells in ``folder``, which may itself be one: what every reader goes by.

    Nothing hidden is a cell: half-done work lies in hidden folders. Links to folders are not
    followed; :func:`unibench.store.verify` names them. A folder that cannot be read is one of them,
    so that every reader names it.

    Raises:
        UsageError: there is no such folder.
    """
    for seen in walk(folder):
        yield folder / seen.place


def walk(folder: Path, known: Container[str] = ()) -> Iterator[Seen]:
    """The cells of a store in the order of their paths, and the folders that cannot be read.

    Args:
        folder: of the store.
        known: cells that are there if they have a row: their files are not listed.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder; give the folder of results (outputs) or of one cell in it"
        )
    yield from _walk(str(folder), "", known)


def _walk(store: str, place: str, known: Container[str]) -> Iterator[Seen]:
    path = f"{store}/{place}" if place else store
    # one look instead of a listing: stores have tens of thousands of cells
    if place in known and os.path.lexists(f"{path}/metrics.json"):
        yield Seen(place)
        return
    folders = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    if not name.startswith("."):
                        folders.append(name)
                elif name in CELL_FILES or name.startswith("samples-"):
                    yield Seen(place)
                    return
    except FileNotFoundError:  # removed meanwhile
        return
    except OSError as error:
        yield Seen(place, f"it cannot be read: {error.strerror}")
        return
    for name in sorted(folders):
        yield from _walk(store, f"{place}/{name}" if place else name, known)


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
    """What killed commands left in a store: half-done folders and files that nobody works on."""
    watch, found = Watch(), []
    for path, names, files in os.walk(folder):
        half = [Path(path, name) for name in names if name.startswith((STAGING, REMOVED))]
        found += [place for place in half if not place.is_symlink() and _is_left(place, watch)]
        # in place, which is how os.walk is told where not to go
        names[:] = [name for name in names if not name.startswith(".")]
        torn = [Path(path, name) for name in files if _is_temporary(name)]
        if torn and holder(Path(path), watch) is None:
            found += torn
        aside = [Path(path, name) for name in files if name.startswith(ASIDE)]
        found += [place for place in aside if _is_old(place)]
    return sorted(found)


def sweep(folder: Path) -> list[Path]:
    """Remove :func:`leftovers`; returns them. Every command that writes to a store begins so."""
    found = leftovers(folder)
    for place in found:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
    return found


def _is_temporary(name: str) -> bool:
    """Whether a file is what :func:`unibench.store.files.fresh` had not put in its place yet."""
    return name.endswith(".tmp") and any(
        re.fullmatch(rf"\.{re.escape(file)}\.[0-9a-f]+\.tmp", name) for file in WHOLE
    )


@cache
def sweep_once(folder: Path) -> None:
    """:func:`sweep`, at the first cell that a process adds to a store."""
    with suppress(OSError):
        sweep(folder)


def links_below(folder: Path) -> Iterator[Path]:
    """Links inside a store, to files or folders, but for hidden ones; no reader follows one."""
    folders = [os.fspath(folder)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
            seen = [entry for entry in inside if not entry.name.startswith(".")]
            # the listing knows what is a link; a look at each file would cost more than the rest
            yield from (Path(entry.path) for entry in seen if entry.is_symlink())
            folders += [entry.path for entry in seen if entry.is_dir(follow_symlinks=False)][::-1]


def _is_old(place: Path) -> bool:
    """Whether nobody has written to a file for an hour; a heartbeat writes every few seconds."""
    try:
        return time.time() - place.lstat().st_mtime > _STALE
    except OSError:
        return False


def _is_left(place: Path, watch: Watch) -> bool:
    """Whether a folder of half-done work has no worker: a claim in it says so, or its age."""
    if any(place.glob("claim-*")):
        return holder(place, watch) is None
    with suppress(OSError):
        # an hour is far more than the clocks of two machines differ by
        return place.name.startswith(REMOVED) or time.time() - place.stat().st_mtime > _STALE
    return False
