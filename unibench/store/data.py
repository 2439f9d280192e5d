"""Reading files that somebody else may have made: as data, within bounds, never through a link.

Everything that a store holds is read by these functions. Nothing here imports or calls what a file
names, and nothing waits: a pipe or a device is no file of results.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from unibench import plainyaml
from unibench.errors import UsageError
from unibench.errors import shown as shown

MIB = 1 << 20
LARGEST = 64 * MIB  # of a file that is read as a whole; files of samples have their own limit
LARGEST_YAML = MIB
SMALL = 4 * MIB  # of a file whose content is kept while its cell is looked at
DEEPEST = 100  # of a JSON text
FILES = 100_000  # of a folder that a stored configuration names
HASHED = 1 << 37  # bytes of their content, for a digest
_NEXT = re.compile(r"\n(?=[a-z_]+:(?: |\n|$))")  # before an entry of a configuration
_MARKS = re.compile(r"(?m)^(---|\.\.\.|%)")  # of several documents, and of directives


_read: ContextVar[dict[Path, bytes] | None] = ContextVar("_read", default=None)


class UnreadableError(UsageError):
    """A file is no plain file, is too large, or does not hold what it should."""


@contextmanager
def reading_once() -> Iterator[None]:
    """Inside the block a small file is read once, however many checks of a cell look at it."""
    token = _read.set({})
    try:
        yield
    finally:
        _read.reset(token)


def read_bytes(file: Path, limit: int = LARGEST) -> bytes:
    """The content of a plain file.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        UnreadableError: it is a link, a pipe, a device or a folder, or larger than ``limit``.
    """
    known = _read.get()
    if known is not None and file in known and len(known[file]) <= limit:
        return known[file]
    try:
        # without O_NONBLOCK, opening a pipe waits for a writer
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        reason = (
            "is a symbolic link; a store's own files are never links"
            if error.errno == errno.ELOOP
            else f"cannot be read: {error.strerror}"
        )
        raise UnreadableError(f"{shown(file)} {reason}") from None
    # of what was opened, not of the path, which may be another file by now
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise UnreadableError(f"{shown(file)} is no plain file")
    with os.fdopen(descriptor, "rb") as stream:
        if state.st_size > limit:
            raise UnreadableError(
                f"{shown(file)} has {state.st_size / MIB:.1f} MiB; at most {limit / MIB:g} MiB are"
                " read"
            )
        # what it held when it was opened, even if it grows meanwhile; room for the whole limit
        # would be had from the system and given back for every small file
        content = stream.read(state.st_size)
    if known is not None and len(content) <= SMALL:
        known[file] = content
    return content


def read_text(file: Path, limit: int = LARGEST) -> str:
    """The text of a plain file, see :func:`read_bytes`.

    Raises:
        UnreadableError: it is no UTF-8.
    """
    try:
        return read_bytes(file, limit).decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableError(f"{shown(file)} is no UTF-8 text") from None


def parsed_json(content: bytes) -> Any:
    """What a JSON text stands for.

    Raises:
        ValueError: it is no JSON, is nested too deep, or holds half a surrogate pair, which no
            output could write.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    # close to Python's limit, what was read here could not be written or hashed elsewhere
    if is_nested(content) and not _is_flat(value):
        raise ValueError("nested too deep")
    # looked for first, since encoding every line again would take as long as parsing it
    if b"\\ud" in content or b"\\uD" in content:
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def is_nested(content: bytes) -> bool:
    """Whether a JSON text may be nested deeper than any that is written here."""
    return content.count(b"[") + content.count(b"{") > DEEPEST


def _is_flat(value: Any) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(DEEPEST):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for part in inner for one in part if isinstance(one, (dict, list))]
        if not level:
            return True
    return False


def read_mapping(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UnreadableError: it is missing, cannot be read, is no mapping, or stands for more than a
            configuration ever does (aliases may turn 2 kB into gigabytes).
    """
    return copy.deepcopy(dict(seen_mapping(file)))


def seen_mapping(file: Path) -> Mapping[str, Any]:
    """The same for a reader that changes nothing of it, see :func:`read_mapping`.

    Raises:
        UnreadableError: see there.
    """
    try:
        text = read_text(file, LARGEST_YAML)
        plain = None if _MARKS.search(text) else _entries(text)
        value = plainyaml.loaded(text) if plain is None else plain
    except (FileNotFoundError, NotADirectoryError):
        raise UnreadableError(f"{shown(file)} is missing") from None
    except plainyaml.TooLargeError as error:
        raise UnreadableError(f"{shown(file)}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UnreadableError(f"{shown(file)} is no YAML") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UnreadableError(f"{shown(file)} is no mapping of names to values")
    return value


def _entries(text: str) -> dict[str, Any] | None:
    """The mapping in a YAML text, read entry by entry; None where it is not written so plainly.

    Cells of a store have most of their entries in common, and to read one takes a millisecond.
    """
    found: dict[str, Any] = {}
    total = 0
    for part in _NEXT.split(text):
        entry = _entry(part)
        if entry is None or not found.keys().isdisjoint(entry.value):
            return None
        found |= entry.value
        total += entry.size
    if total > plainyaml.NODES:
        raise plainyaml.TooLargeError
    return found


@dataclass(frozen=True)
class _Entry:
    """An entry of a mapping with its key, which is not to be changed, and its number of values."""

    value: dict[str, Any]
    size: int


@lru_cache(maxsize=4096)
def _entry(text: str) -> _Entry | None:
    try:
        value, size = plainyaml.sized(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or len(value) != 1 or not isinstance(next(iter(value)), str):
        return None
    return _Entry(value, size)


def check_bounded(folder: Path) -> None:
    """Refuse a file or folder that a stored configuration names and that would take long to hash
    (``/``).

    Raises:
        UnreadableError: it holds too much.
    """
    files, size = 0, folder.stat().st_size if folder.is_file() else 0
    if size > HASHED:
        raise UnreadableError(f"{shown(folder)} has more than {HASHED >> 30} GiB to be hashed")
    for place, _, names in os.walk(folder, followlinks=True):  # as the digest does
        for name in names:
            file = Path(place, name)
            files += 1
            size += file.stat().st_size if file.is_file() else 0
        if files > FILES or size > HASHED:
            raise UnreadableError(
                f"{shown(folder)} holds more than {FILES} files or {HASHED >> 30} GiB to be hashed"
            )
