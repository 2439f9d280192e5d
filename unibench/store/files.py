"""Writing files so that a kill, a full disk or a second writer leaves nothing half done."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unibench.errors import UsageError


class DiskError(UsageError):
    """A folder of results cannot be written: no further cell can be run into it."""


def replace(file: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(file: Path) -> Any:
    """What a JSON file holds; None if it does not exist or is damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
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
