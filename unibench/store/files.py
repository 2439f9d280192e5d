"""Writing files so that a kill, a full disk or a second writer leaves nothing half done."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from unibench.errors import UsageError
from unibench.store.data import UnreadableError, parsed_json, read_bytes, shown
from unibench.store.lines import sound


class DiskError(UsageError):
    """A folder of results cannot be written: no further cell can be run into it."""


def replace(file: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Of a link it replaces the link, not what it points to.
    """
    with fresh(file) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def fresh(file: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``file`` at the end of the block, and is gone on an error.

    It is created exclusively under a name that nobody can guess, so that a link laid there before
    is never written through; of its mode the user's umask takes away.
    """
    # beside the file: only a rename within one file system is atomic
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb", opener=partial(os.open, mode=mode)) as stream:
            yield stream
            stream.flush()
            # before the rename, or a power cut could leave the new name on an empty file
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def appending(file: Path) -> Iterator[BinaryIO]:
    """A file opened to be added to; it is made if it is not there, and it is no link.

    Raises:
        UnreadableError: it is a link.
    """
    try:
        stream = open(file, "ab", opener=no_link)  # noqa: SIM115 - closed below
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnreadableError(
                f"{shown(file)} is a link; nothing is written through it"
            ) from None
        raise
    with stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def refuse_links(store: Path, place: Path) -> None:
    """Refuse to write below a store through a link inside it; the store itself may be one.

    Raises:
        UnreadableError: a folder on the way is a link.
    """
    for part in place.relative_to(store).parts:
        store = store / part
        if store.is_symlink():
            raise UnreadableError(f"{shown(store)} is a link; nothing is written through it")


def no_link(path: str, flags: int) -> int:
    """An opener for :func:`open` that follows no link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def read_json(file: Path) -> Any:
    """What a JSON file holds; None if it does not exist, is damaged, or is no plain file."""
    try:
        content = sound(read_bytes(file))
        return None if content is None else parsed_json(content)
    except (FileNotFoundError, NotADirectoryError, ValueError, UnreadableError):
        return None


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Errors of the disk inside the block become one line.

    Raises:
        DiskError: what went wrong at ``path``, and that nothing is lost.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            reason = "the folder cannot be written; set out=<folder>"
        else:
            reason = str(error)
        raise DiskError(
            f"{path}: {reason}. Every answered sample is safe; the same command continues"
        ) from None
