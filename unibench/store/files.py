"""Writing files so that a kill, a full disk or a second writer leaves nothing half done."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from unibench.errors import UsageError
from unibench.store.data import UnreadableError, parsed_json, read_bytes


class DiskError(UsageError):
    """A folder of results cannot be written: no further cell can be run into it."""


def replace(file: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Of a link it replaces the link, not what it points to.
    """
    with fresh(file) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def fresh(file: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``file`` at the end of the block, and is gone on an error.

    It is created exclusively under a name that nobody can guess, so that a link laid there before
    is never written through; its mode is the user's umask's.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(file: Path) -> Any:
    """What a JSON file holds; None if it does not exist, is damaged, or is no plain file."""
    try:
        return parsed_json(read_bytes(file))
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
