"""What files hold, as digests of their whole contents, remembered so that each is read once.

A digest is remembered for a file's size, inode and times of change, in the user's cache folder, one
file of digests for each folder that was asked for. A file that was changed a moment ago is not
remembered: the next change could leave the same size and, on a coarse clock, the same time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from unibench import jsoncache
from unibench.errors import UsageError

SETTLED_NS = 2_500_000_000  # FAT keeps times to two seconds
UNREAD = ("README.md", "__pycache__")  # what nothing loads; nor what is hidden
MISSING = "missing"
Stamp = list[int]

_known: dict[str, tuple[Stamp, str]] = {}  # by path, of this process
_remembered: set[str] = set()  # names of the files of digests that were read


def contents(place: Path, also: Iterable[str] = ()) -> str:
    """Hash of names and contents of a file, or of the files below a folder.

    Hidden files and folders, README.md and __pycache__ do not count. Symbolic links are followed.

    Args:
        place: a file or a folder.
        also: further files, as they are named from the folder, or from that of the file, that
            count wherever they lie.

    Raises:
        UsageError: a file cannot be read.
    """
    name = f"files-{hashlib.blake2b(str(place.absolute()).encode(), digest_size=8).hexdigest()}"
    if name not in _remembered:
        _remembered.add(name)
        _known.update({path: (stamp, digest) for path, (stamp, digest) in _read(name)})
    files = {"": place} if place.is_file() else dict(_files(place))
    inside = {os.path.normpath(file) for file in files.values()}
    base = place.parent if place.is_file() else place
    for named in also:
        if os.path.normpath(base / named) not in inside:
            files[f"../{named}"] = base / named
    paths = [str(file.absolute()) for file in files.values()]
    before = [_known.get(path) for path in paths]
    whole = hashlib.blake2b(digest_size=8)
    # by name, since os.walk lists in an order of the file system's
    for key, file in sorted(files.items()):
        # names of files need not be UTF-8 on Linux
        whole.update(f"{key}\0{_digest(file)}\n".encode("utf-8", "surrogateescape"))
    if before != [_known.get(path) for path in paths]:
        jsoncache.write(name, {path: _known[path] for path in paths if path in _known})
    return whole.hexdigest()


def text(file: Path) -> str:
    """The text of a file, as well as it can be read; empty where there is none."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read(name: str) -> Iterator[tuple[str, tuple[Stamp, str]]]:
    """The remembered digests; none where the file was damaged or written by another version."""
    for path, entry in jsoncache.read(name).items():
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str):
            yield path, (entry[0], entry[1])


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files below a folder by their names from there."""
    seen: set[str] = set()
    for path, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        # in this order, so that of two links to one folder it is always the same that counts
        folders[:] = sorted(name for name in folders if not _unread(name))
        if (real := os.path.realpath(path)) in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in files:
            file = Path(path, name)
            if not _unread(name) and file.is_file():
                yield file.relative_to(folder).as_posix(), file


def _unread(name: str) -> bool:
    return name.startswith(".") or name in UNREAD


def _digest(file: Path) -> str:
    """Hash of a file's contents; ``missing`` where there is none, or a device, or a pipe."""
    path = str(file.absolute())
    try:
        if not file.is_file():
            return MISSING
        found = stamp(file)
        stored = _known.get(path)
        if stored is not None and stored[0] == found:
            return stored[1]
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
        # a file that was written to while it was read has no digest worth remembering
        again = stamp(file)
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        _refuse(error)
    _known.pop(path, None)
    if found == again and time.time_ns() - max(found[1:3]) > SETTLED_NS:
        _known[path] = (found, digest.hexdigest())
    return digest.hexdigest()


def _refuse(error: OSError) -> NoReturn:
    raise UsageError(
        f"{error.filename} cannot be read ({error.strerror}), and its contents are in the key of a"
        " cell"
    ) from None


def stamp(file: Path) -> Stamp:
    """Size, times of change of the contents and of the entry, inode."""
    state = file.stat()
    # ctime moves where somebody sets mtime back, as cp -p and rsync do
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
