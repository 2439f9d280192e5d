"""The index of a store: the lines of all its rows in one file, brought up to date cell by cell.

``<folder>/index.parquet`` holds the lines of the frame, folders relative to it; and of each cell
the state of its files when its lines were read. A cell whose files have changed since is read
again, the others are not looked into. What ``store verify`` finds is kept here too: the lines of
such a cell are left out until one of its files changes or it is found whole. The file may be
deleted at any time: the rows are then read again, and what was found is forgotten. Where a store
cannot be written, its index lies in the user's cache.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import secrets
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, field
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
from unibench.store.unpack import limit_of

log = logging.getLogger(__name__)

INDEX = "index.parquet"
LARGEST = 1 << 32
SCHEMA = 4
ROW = "metrics.json"
Stamp = str
_BLANK = b"0" * 32  # in place of the stamp, for the stamp


@dataclass(frozen=True)
class Entry:
    """What the index knows of a cell.

    Attributes:
        stamp: digest of names, times and sizes of its files when they were read.
        lines: number of lines that are the cell's.
        fault: why the cell has none.
        verified: whether ``store verify`` found the fault, which a look at the files does not.
    """

    stamp: Stamp
    lines: int
    fault: str = ""
    verified: bool = False


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
            yield seen.place, "", seen.fault
            continue
        try:
            stamp = stamp_of(f"{folder}/{seen.place}")
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            yield seen.place, "", f"it cannot be read: {error.strerror}"
            continue
        if stamp:
            yield seen.place, stamp, ""


def stamp_of(cell: str) -> Stamp:
    """What the files of a cell are like; nothing of a cell without a row."""
    with os.scandir(cell) as entries:
        states = {
            entry.name: entry.stat(follow_symlinks=False)
            for entry in entries
            if limit_of(entry.name) is not None
        }
    if ROW not in states:
        return ""
    # nobody can set a ctime, so that an edit cannot be hidden
    listed = [(name, s.st_mtime_ns, s.st_ctime_ns, s.st_size) for name, s in states.items()]
    return hashlib.blake2b(repr(sorted(listed)).encode(), digest_size=16).hexdigest()


def read(folder: Path) -> Index:
    """The index of a store; an empty one where there is none, or one that is damaged or strange."""
    table = read_sheet(folder, INDEX)
    if table is None:
        return Index()
    listed = json.loads(table.schema.metadata[b"cells"])
    cells = {name: Entry(*entry) for name, entry in listed.items()}
    return Index(cells, table.to_pandas())


def read_sheet(folder: Path, name: str) -> pa.Table | None:
    """A file of the index of a store; None where there is none that this user wrote whole."""
    for place in (folder / name, _elsewhere(folder, name)):
        try:
            content = read_bytes(place, LARGEST)
            metadata = pq.read_metadata(io.BytesIO(content)).metadata or {}
            stamp = metadata.get(b"stamp", b"")
            # of the rest of the file each bit counts, as it was before the stamp was put in
            if content.count(stamp) == 1 and stamp == _signed(content.replace(stamp, _BLANK), name):
                return pq.read_table(io.BytesIO(content))
        except (OSError, UsageError, pa.ArrowException):
            continue
    return None


def exists(folder: Path) -> bool:
    """Whether a folder may have an index."""
    return (folder / INDEX).is_file() or _elsewhere(folder, INDEX).is_file()


def roots(folder: Path, cells: Iterable[Path]) -> list[Path]:
    """The folders whose index may tell of cells below ``folder``: that folder, those above that
    have one, and the usual root of each cell, ``<root>/<model>/<task>/<method>/<key>``.
    """
    usual = {cell.parents[3] for cell in cells if len(cell.parents) > 3}
    above = {place for place in folder.parents if exists(place)}
    return sorted({folder, *above, *usual})


def write(folder: Path, index: Index) -> None:
    """Keep an index: in the store, or where that cannot be written in the user's cache."""
    cells = {name: astuple(one) for name, one in index.cells.items()}
    more = {b"cells": json.dumps(cells).encode()}
    write_sheet(
        folder, INDEX, lambda: pa.Table.from_pandas(index.lines, preserve_index=False), more
    )


def write_sheet(
    folder: Path, name: str, table: Callable[[], pa.Table], more: Mapping[bytes, bytes]
) -> None:
    """Keep a file of the index, see :func:`write`.

    Args:
        folder: of the store.
        name: of the file.
        table: makes what it holds; of rows that hold anything that may end in an error.
        more: what its metadata hold.
    """
    try:
        content = _content(table(), more, name)
        try:
            _write(content, folder / name)
        except OSError:  # a folder that nobody may write, or a disk that is full
            other = _elsewhere(folder, name)
            other.parent.mkdir(parents=True, exist_ok=True)
            _write(content, other)
    except (OSError, pa.ArrowException) as error:
        log.warning(
            "%s cannot be written (%s); what it keeps is read cell by cell each time",
            folder / name,
            error,
        )


def _content(table: pa.Table, more: Mapping[bytes, bytes], name: str) -> bytes:
    """A table as a file, with its stamp in the file's own metadata."""
    place = secrets.token_hex(len(_BLANK) // 2).encode()  # nothing that is stored is like it
    metadata = {**(table.schema.metadata or {}), **more, b"stamp": place}
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), stream)
    content = stream.getvalue()
    return content.replace(place, _signed(content.replace(place, _BLANK), name))


def _write(content: bytes, place: Path) -> None:
    if not os.stat(place.parent).st_mode & 0o222:  # root may write all the same
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place.parent))
    with fresh(place) as stream:
        stream.write(content)


def _elsewhere(folder: Path, name: str) -> Path:
    digest = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=16).hexdigest()
    return _cache() / "index" / name.replace("index", digest, 1)


def _signed(content: bytes, name: str) -> bytes:
    """The stamp of a file of the index with this content, under this user's secret.

    An index is trusted without a look at the rows, so a store that comes from elsewhere must not be
    able to bring one along, and a flipped bit must not change a number.
    """
    # the name, so that one file of the index is never taken for another
    words = f"{SCHEMA}:{','.join(LINE)}:{'' if name == INDEX else name}".encode()
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
