"""What the files of a cell were when it was finished: ``manifest.json``.

It holds the size and the SHA-256 of each file; until a cell is finished, of those alone that say
which cell it is. Cells that an earlier version finished have none;
their rows are recomputed from their samples all the same. A manifest tells damage and careless
edits: whoever edits on purpose can write another one, and is found where a row is not what its
samples give, or a score not what its answer gets.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unibench.store.data import UnreadableError, parsed_json, read_bytes
from unibench.store.files import replace
from unibench.store.lines import checked, sound
from unibench.store.unpack import LIMITS, limit_of

NAME = "manifest.json"
SCHEMA = 1
FIXED = ("config.yaml", "identity.json")  # from the beginning
GROWING = ("run.log",)  # a harness's process may still say something when its cell is finished


@dataclass(frozen=True)
class Seal:
    """A file as it was.

    Attributes:
        size: in bytes.
        sha256: of its content, in hexadecimal digits.
    """

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Seal:
        """The seal of a file with this content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())

    @property
    def whole(self) -> bool:
        """Whether it is of the right types; it may have been read from anything."""
        return type(self.size) is int and self.size >= 0 and isinstance(self.sha256, str)


@dataclass(frozen=True)
class Fault:
    """A file that is not as it was.

    Attributes:
        file: which one.
        what: for people.
    """

    file: Path
    what: str


def begin(cell: Path) -> None:
    """Write the manifest of a cell that has no samples yet."""
    replace(cell / NAME, text_of({name: _content(cell / name) for name in FIXED}))


def write(cell: Path, coming: Mapping[str, bytes]) -> None:
    """Write the manifest of a finished cell.

    Args:
        cell: its folder.
        coming: content of files that are written after it.
    """
    files = {name: _content(cell / name) for name in _names(cell) if name not in coming}
    replace(cell / NAME, text_of({**files, **coming}))


def text_of(files: Mapping[str, bytes]) -> bytes:
    """The manifest of files with these contents."""
    return _text({name: Seal.of(content) for name, content in files.items() if _is_sealed(name)})


def renew(cell: Path, name: str, content: bytes) -> None:
    """Replace a file of a cell; of a finished one the manifest too, unless it was damaged."""
    file = cell / name
    try:
        seals = read(cell)
        whole = seals is not None and (name not in seals or _fault(file, seals[name]) is None)
    except UnreadableError:
        seals, whole = None, False
    replace(file, content)
    # a damaged file that was replaced must not be vouched for by a new seal
    if seals is not None and whole:
        replace(cell / NAME, _text({**seals, name: Seal.of(content)}))


def read(cell: Path) -> dict[str, Seal] | None:
    """The manifest of a finished cell; None if it has none, as those of earlier versions.

    Raises:
        UnreadableError: it is damaged.
    """
    try:
        content = read_bytes(cell / NAME, LIMITS[NAME])
    except (FileNotFoundError, NotADirectoryError):
        return None
    seals = _seals(content)
    if seals is None or _text(seals) != content:  # in another form, whatever it says
        raise UnreadableError(f"{cell / NAME} is damaged")
    return seals


def _seals(content: bytes) -> dict[str, Seal] | None:
    """What a manifest says; None if it is none."""
    try:
        entry = parsed_json(sound(content) or b"")
        seals = {name: Seal(**seal) for name, seal in entry["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    # a name with a slash would have other files read than the cell's
    return seals if all(_is_sealed(name) and seal.whole for name, seal in seals.items()) else None


def faults(cell: Path, *, finished: bool = True) -> Iterator[Fault]:
    """The files of a cell that are not as they were; none of a cell without a manifest.

    Args:
        cell: its folder.
        finished: whether it has a row.
    """
    try:
        seals = read(cell)
    except UnreadableError:
        yield Fault(cell / NAME, "is damaged or was edited")
        return
    if seals is None:
        return
    for name, seal in seals.items():
        looked = finished or name in FIXED
        if looked and (what := _fault(cell / name, seal)) is not None:
            yield Fault(cell / name, what)
    for name in _names(cell) if finished else ():
        if name not in seals and name not in GROWING:
            yield Fault(cell / name, "was added after the cell was finished")


def changed(cell: Path) -> str | None:
    """What sizes and times show of a finished cell that is not as it was, without reading samples;
    None if they show nothing.

    Only a file that was written after the manifest is read. Damage that leaves both as they were
    takes ``store verify``.
    """
    try:
        try:
            seals = _seals(read_bytes(cell / NAME, LIMITS[NAME]))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if seals is None:
            return f"{NAME} is damaged"
        finished = os.lstat(cell / NAME).st_ctime_ns
        for name, seal in seals.items():
            state = os.lstat(f"{cell}/{name}")  # of every file of a store: a Path takes longer
            cut = state.st_size < seal.size if name in GROWING else state.st_size != seal.size
            # a ctime is nobody's to set; the row follows the manifest, and a copy is of any order
            later = state.st_ctime_ns > finished and name not in GROWING
            whole = stat.S_ISREG(state.st_mode) and not cut
            if not whole or (later and _fault(cell / name, seal) is not None):
                return f"{name} is not as it was when the cell was finished"
    except UnreadableError as error:
        return str(error)
    except OSError as error:
        return f"{Path(str(error.filename)).name} cannot be read: {error.strerror}"
    return None


def _fault(file: Path, seal: Seal) -> str | None:
    try:
        content = _content(file)
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except UnreadableError as error:
        return f"cannot be read: {error}"
    if file.name in GROWING:
        content = content[: seal.size]
    if len(content) != seal.size:
        return f"has {len(content)} bytes, and had {seal.size} when the cell was finished"
    if Seal.of(content) != seal:
        return "was changed since the cell was finished: its SHA-256 is another"
    return None


def _content(file: Path) -> bytes:
    return read_bytes(file, limit_of(file.name) or 0)


def _names(cell: Path) -> list[str]:
    """The files of a cell that a manifest is about."""
    return sorted(name for name in os.listdir(cell) if _is_sealed(name))


def _is_sealed(name: str) -> bool:
    """Whether a manifest is about a file: not about a writer's file of samples that is left in a
    finished cell, whose lines have checksums.
    """
    return name in LIMITS and name != NAME


def _text(seals: Mapping[str, Seal]) -> bytes:
    """In one form only, with a checksum, so that a flipped bit is the manifest's own damage."""
    files: dict[str, Any] = {name: asdict(seals[name]) for name in sorted(seals)}
    return checked(json.dumps({"schema": SCHEMA, "files": files}, indent=1))
