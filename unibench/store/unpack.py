"""Reading an archive of cells as a stream: what is not taken costs neither memory nor disk.

Nothing is extracted by ``tarfile``, whose extraction follows links that the archive itself made
(CVE-2025-4517): names and sizes are read, and the files of cells are written here, each created
exclusively in a folder that was made empty for it.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from unibench.errors import UsageError
from unibench.store.data import MIB, shown

T = TypeVar("T")
GIB = 1024 * MIB
MAX_SIZE = 4.0  # GiB that an archive may unpack to, unless the user allows more
SMALL = 16 * MIB
LIMITS = {  # of the files of a cell, in the order in which they are copied: the identity comes last
    "config.yaml": MIB,
    "env.json": SMALL,
    "status.json": SMALL,
    "harness.json": 64 * MIB,
    "metrics.json": SMALL,
    "run.log": 64 * MIB,
    "judge.jsonl": 256 * MIB,
    "samples.damaged": 256 * MIB,
    "samples.jsonl": 256 * MIB,
    "manifest.json": SMALL,
    "identity.json": MIB,
}
HEADERS = 256 << 10  # bytes of the headers before a member
DEPTH = 8  # folders above a cell, within an archive
ACTIVE = set("<>&\"'`|$;*?[]{}\\")  # signs that pages, shells and terminals give a meaning
_CHUNK = 1 << 16
_BLOCK = 8192  # what a file takes on a disk, however small it is


def limit_of(name: str) -> int | None:
    """Most bytes of a file of a cell; None for a name that no file of a cell has."""
    number = name.removeprefix("samples-").removesuffix(".jsonl")
    if name == f"samples-{number}.jsonl" and number.isascii() and number.isdecimal():
        return LIMITS["samples.jsonl"] if len(number) <= 9 else None
    return LIMITS.get(name)


@dataclass
class Unpacked:
    """What an archive held.

    Attributes:
        cells: folders below the one it was unpacked into, each with the files of one cell.
        files: that were written.
        strays: files that belong to no cell and were left out.
    """

    cells: dict[PurePosixPath, None] = field(default_factory=dict)
    files: int = 0
    strays: int = 0


def unpack(file: Path, into: Path, max_size: float = MAX_SIZE) -> Unpacked:
    """Write the cells of an archive below an empty folder.

    The compressed stream is read to its end, so that its checksum counts.

    Args:
        file: a ``.tar.gz`` or ``.tar``.
        into: exists and is empty.
        max_size: GiB that the whole may unpack to.

    Raises:
        UsageError: it is no archive, is damaged, too large, or holds a link or a name that no cell
            has; what was written so far is the caller's to remove.
    """
    found = Unpacked()
    try:
        with (
            _opened(file, round(max_size * GIB)) as stream,
            stream.within(HEADERS, partial(_archive, stream)) as archive,
        ):
            while (member := stream.within(HEADERS, archive.next)) is not None:
                # tarfile keeps each of them otherwise
                archive.members.clear()  # type: ignore[attr-defined]
                if archive.pax_headers:
                    raise tarfile.ReadError("headers for all members, which no export writes")
                _take(archive, member, into, found)
                # many empty files unpack to nothing and still fill a disk
                if (found.files + DEPTH * len(found.cells)) * _BLOCK > max_size * GIB:
                    raise _TooLargeError
            stream.finish()
    except _TooLargeError:
        raise UsageError(
            f"{shown(file)} unpacks to more than {max_size:g} GiB; nothing was imported. --max-size"
            f" {2 * max_size:g} allows more, if you trust who made it"
        ) from None
    except FileNotFoundError:
        raise UsageError(f"{shown(file)}: there is no such file") from None
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, RecursionError,
            OverflowError) as error:  # fmt: skip
        raise UsageError(
            f"{shown(file)} is no archive of `store export`, or is damaged: {shown(error)}; nothing"
            " was imported"
        ) from None
    return found


def _archive(stream: _Forward) -> tarfile.TarFile:
    # not mode "r|": its reads would follow the size that a header claims, into memory
    return tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape")


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, into: Path, found: Unpacked) -> None:
    """Write a member if it is a file of a cell.

    Raises:
        UsageError: it is refused, and the archive with it.
    """
    path = _checked(member)
    if member.isdir():
        return
    limit = limit_of(path.name)
    hidden = any(part.startswith(".") for part in path.parts)
    if limit is None or hidden or len(path.parts) < 2:
        found.strays += 1
        return
    # a sparse file may claim any size with hardly any bytes
    if member.size > limit or member.issparse():
        what = "is sparse" if member.issparse() else f"has {member.size / MIB:.1f} MiB"
        raise UsageError(
            f"member {shown(member.name)} {what}; at most {limit / MIB:g} MiB of a {path.name} are"
            " taken. Nothing was imported"
        )
    place = into / path
    place.parent.mkdir(parents=True, exist_ok=True)
    found.cells.setdefault(path.parent)
    found.files += 1
    try:
        descriptor = os.open(
            place,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW,
            (member.mode & 0o666) | 0o600,
        )
    except FileExistsError:
        raise UsageError(
            f"member {shown(member.name)} is there twice; nothing was imported"
        ) from None
    with os.fdopen(descriptor, "wb") as target:
        content = archive.extractfile(member)
        assert content is not None  # a regular file has one
        while chunk := content.read(_CHUNK):
            target.write(chunk)


def _checked(member: tarfile.TarInfo) -> PurePosixPath:
    """The path of a member.

    Raises:
        UsageError: nothing that `store export` writes has such a name or is of such a kind.
    """
    name = member.name
    if not (member.isfile() or member.isdir()):
        reason = "is a link" if member.issym() or member.islnk() else "is no plain file"
    elif name.startswith("/") or ".." in name.split("/"):
        reason = "leads out of the store"
    elif any("\udc80" <= sign <= "\udcff" for sign in name):
        reason = "is not named in UTF-8"
    elif not name.isprintable() or ACTIVE & set(name):
        reason = "has signs in its name that no cell has"
    elif name.count("/") > DEPTH or any(len(part.encode()) > 200 for part in name.split("/")):
        reason = "has a longer name than any cell"
    else:
        return PurePosixPath(name)
    raise UsageError(f"member '{shown(name)}' {reason}; nothing was imported")


class _TooLargeError(Exception):
    """The stream is longer than allowed."""


@contextmanager
def _opened(file: Path, limit: int) -> Iterator[_Forward]:
    """The tar stream in a file, unpacked as it is read."""
    with file.open("rb") as raw:
        # by the first bytes and not by the name
        start = raw.peek(2)[:2]
        if start != b"\x1f\x8b":
            yield _Forward(raw, limit)
            return
        with gzip.GzipFile(fileobj=raw, mode="rb") as unzipped:
            yield _Forward(unzipped, limit)


class _Forward(io.RawIOBase):
    """A stream that is read once, from its start, within bounds.

    Args:
        stream: what is read.
        limit: most bytes of it.
    """

    def __init__(self, stream: BinaryIO | gzip.GzipFile, limit: int) -> None:
        self._stream, self._limit, self._place, self._last = stream, limit, 0, b""
        self._left: int | None = None

    def within(self, size: int, call: Callable[[], T]) -> T:
        """What a call returns that reads no more than so many bytes; what it skips is not counted.

        Raises:
            tarfile.ReadError: it wants more. Headers may follow each other without end, and each
                is kept in memory.
        """
        self._left = size
        try:
            return call()
        finally:
            self._left = None

    def read(self, size: int = -1) -> bytes:
        # tarfile reads a long name or an extended header at one go, whatever size it claims
        if size < 0:
            raise tarfile.ReadError("a header of no size")
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                what = f"the headers of a member take more than {HEADERS >> 10} KiB"
                raise tarfile.ReadError(what)
        return self._read(size)

    def _read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._place += len(content)
        if self._place > self._limit:
            raise _TooLargeError
        self._last = content or self._last
        return content

    def tell(self) -> int:
        return self._place

    def seek(self, place: int, whence: int = 0) -> int:
        """Read on to a place; only a header with a negative size asks for the way back."""
        if whence != 0 or place < self._place:
            raise tarfile.ReadError("a header points backwards")
        while self._place < place:
            if not self._read(min(_CHUNK, place - self._place)):
                raise tarfile.ReadError("it ends within a file")
        return self._place

    def finish(self) -> None:
        """Read to the end.

        Raises:
            tarfile.ReadError: there was no mark of an archive's end.
        """
        if self._last.strip(b"\0"):
            raise tarfile.ReadError("its end is missing")
        while self.read(_CHUNK):
            pass
