"""The index of a store: the lines of all its rows in one file, brought up to date cell by cell.

``<folder>/index.parquet`` holds the lines of the frame, folders relative to it; and of each cell
the state of the files that its lines were read from. A cell whose files have changed since is read
again, the others are not looked into. The file is a copy and may be deleted at any time. Where a
store cannot be written, its index lies in the user's cache.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import secrets
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from unibench.errors import UsageError
from unibench.inference.row import LINE
from unibench.store.data import read_bytes
from unibench.store.files import fresh
from unibench.store.index import walk

log = logging.getLogger(__name__)

INDEX = "index.parquet"
LARGEST = 1 << 32
SCHEMA = 3
FILES = ("metrics.json", "identity.json")  # what a row is read from
Stamp = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """What the index knows of a cell.

    Attributes:
        stamp: times and sizes of :data:`FILES` when they were read.
        lines: number of lines that are the cell's.
        fault: why the cell has none.
    """

    stamp: Stamp
    lines: int
    fault: str = ""


@dataclass(frozen=True)
class Index:
    """An index that was read or made.

    Attributes:
        cells: by their folder below the store, in the order of their lines.
        lines: of all cells; None if there are none.
    """

    cells: dict[str, Entry] = field(default_factory=dict)
    lines: pd.DataFrame | None = None


def stamps(folder: Path, known: Container[str]) -> Iterator[tuple[str, Stamp, str]]:
    """The finished cells of a store as they are now: folder below it, stamp, and why the cell
    cannot be read.

    Args:
        folder: of the store.
        known: cells that need not be looked for.
    """
    for seen in walk(folder, known):
        if seen.fault:
            yield seen.place, (), seen.fault
            continue
        try:
            states = [os.lstat(f"{folder}/{seen.place}/{FILES[0]}")]
        except FileNotFoundError:
            continue
        except OSError as error:
            yield seen.place, (), f"it cannot be read: {error.strerror}"
            continue
        with suppress(OSError):  # a row without its identity is found out when it is read
            states.append(os.lstat(f"{folder}/{seen.place}/{FILES[1]}"))
        # nobody can set a ctime, so that an edit cannot be hidden
        yield (
            seen.place,
            tuple(n for s in states for n in (s.st_mtime_ns, s.st_ctime_ns, s.st_size)),
            "",
        )


def read(folder: Path) -> Index:
    """The index of a store; an empty one where there is none, or one that is damaged or strange."""
    for place in (folder / INDEX, _elsewhere(folder)):
        try:
            table = pq.read_table(io.BytesIO(read_bytes(place, LARGEST)))
        except (OSError, UsageError, pa.ArrowException):
            continue
        metadata = table.schema.metadata or {}
        content = metadata.get(b"cells", b"")
        if metadata.get(b"stamp") == _signed(content):
            listed = json.loads(content)
            cells = {name: Entry(tuple(stamp), *more) for name, (stamp, *more) in listed.items()}
            return Index(cells, table.to_pandas())
    return Index()


def write(folder: Path, index: Index) -> None:
    """Keep an index: in the store, or where that cannot be written in the user's cache."""
    cells = {name: (one.stamp, one.lines, one.fault) for name, one in index.cells.items()}
    content = json.dumps(cells).encode()
    try:
        table = pa.Table.from_pandas(index.lines, preserve_index=False)
        more = {b"cells": content, b"stamp": _signed(content)}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **more})
        try:
            _write(table, folder / INDEX)
        except OSError:
            other = _elsewhere(folder)
            other.parent.mkdir(parents=True, exist_ok=True)
            _write(table, other)
    except (OSError, pa.ArrowException) as error:
        log.warning(
            "%s cannot be written (%s); the rows are read one by one each time",
            folder / INDEX,
            error,
        )


def _write(table: pa.Table, place: Path) -> None:
    with fresh(place) as stream:
        pq.write_table(table, stream)


def _elsewhere(folder: Path) -> Path:
    name = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=16).hexdigest()
    return _cache() / "index" / f"{name}.parquet"


def _signed(content: bytes) -> bytes:
    """What an index says it was made of, under this user's secret.

    An index is trusted without a look at the rows, so a store that comes from elsewhere must not be
    able to bring one along.
    """
    words = f"{SCHEMA}:{','.join(LINE)}:".encode()
    return hashlib.blake2b(words + content, digest_size=16, key=_secret()).hexdigest().encode()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "unibench"


@cache
def _secret() -> bytes:
    """Random bytes of this user; others for each process where none can be kept."""
    file, made = _cache() / "index.key", secrets.token_bytes(32)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(file, "xb", opener=_private) as stream:
            stream.write(made)
        kept = file.read_bytes()
    except OSError:
        return made
    return kept if len(kept) == len(made) else made


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
