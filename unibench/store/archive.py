"""Moving cells between stores: folder into folder, a store as one file, and back."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from unibench.errors import UsageError
from unibench.store import manifest
from unibench.store.claim import Watch, acquire
from unibench.store.data import UnreadableError, parsed_json, read_bytes, shown
from unibench.store.files import disk_errors, fresh, refuse_links, replace
from unibench.store.folder import read_samples, sample_files
from unibench.store.index import CELL_FILES, STAGING, cells_below, identity_fault, sweep
from unibench.store.lines import line_of, sound
from unibench.store.unpack import LIMITS, MAX_SIZE, unpack


@dataclass
class Merged:
    """What a merge did.

    Attributes:
        new: cells that were not there.
        grown: cells that had fewer samples.
        same: cells that had all of them.
        conflicts: samples that both stores had, with different answers; the one that was there
            stays.
        refused: cells that were left out, each with the reason.
        strays: files of an archive that belong to no cell and were left out.
    """

    new: int = 0
    grown: int = 0
    same: int = 0
    conflicts: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    strays: int = 0


def merge(source: Path, into: Path) -> Merged:
    """Add the cells and samples of one store to another; the source stays as it is.

    A cell that both have only in part gets the samples of both; the next run of it answers what is
    still missing and writes its row.

    Raises:
        UsageError: no such folder, a damaged cell, a link, or a disk that cannot be written.
    """
    merged = Merged()
    cells = list(cells_below(source))
    with disk_errors(into):
        into.mkdir(parents=True, exist_ok=True)
    sweep(into)
    for cell in cells:
        target = into / cell.relative_to(source)
        refuse_links(into, target)
        if (target / "identity.json").exists():
            _join(cell, target, merged)
        else:
            merged.new += 1
            _copy(cell, target)
    return merged


def export(folder: Path, file: Path, wanted: Collection[Path] | None = None) -> int:
    """Pack the cells of a store into one ``.tar.gz``; returns how many.

    Args:
        folder: of results.
        file: the archive.
        wanted: folders of the cells to pack; all of them without it.

    Where a file of a cell is hidden from others, the archive is so too.

    Raises:
        UsageError: no such folder, it holds no cell, or a cell holds a link.
    """
    cells = [cell for cell in cells_below(folder) if wanted is None or cell in wanted]
    if not cells:
        raise UsageError(f"{folder} holds no cell" + (" that fits" if wanted is not None else ""))
    members = [member for cell in cells for member in _members(cell)]
    shared = min((member.stat().st_mode & 0o066 for member in members), default=0)
    with disk_errors(file.parent), fresh(file, 0o600 | shared) as stream:
        with tarfile.open(file.name, "w:gz", fileobj=stream) as archive:
            for member in members:
                with _plain(member) as content:
                    # of the open file: a path could be exchanged for a link in between
                    info = archive.gettarinfo(
                        arcname=str(member.relative_to(folder)), fileobj=content
                    )
                    info.uid = info.gid = 0  # who made it is nobody's business
                    info.uname = info.gname = ""
                    archive.addfile(info, content)
    return len(cells)


def import_(file: Path, folder: Path, max_size: float = MAX_SIZE) -> Merged:
    """Unpack what :func:`export` packed and merge it into a store.

    Cells are moved into the store as wholes, once the archive was read to its end.

    Args:
        file: the archive.
        folder: of results; made if it is not there.
        max_size: GiB that the archive may unpack to.

    Raises:
        UsageError: no such file, no archive of cells, or one that is refused; the store is then as
            it was.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    with _staging(folder) as staged:
        with disk_errors(folder):
            found = unpack(file, staged, max_size)
        if not found.cells:
            raise UsageError(f"{shown(file)} holds no cell")
        nested = next((path for path in found.cells if {*path.parents} & found.cells.keys()), None)
        if nested is not None:
            raise UsageError(
                f"member '{shown(nested)}' lies inside of another cell; nothing was imported"
            )
        merged = Merged(strays=found.strays)
        for path in found.cells:
            if (outer := _outer(path, folder)) is not None:
                what = f"it lies inside of another cell, {shown(outer)}"
                merged.refused.append(f"{shown(path)}: {what}")
                continue
            # else a stranger's samples could stand under the key of another cell
            if (fault := identity_fault(staged / path)) is not None:
                merged.refused.append(f"{shown(path)}: {fault}")
                continue
            target = folder / path
            refuse_links(folder, target)
            if (target / "identity.json").exists():
                _join(staged / path, target, merged)
            else:
                merged.new += 1
                _move(staged / path, target)
    return merged


def _outer(path: PurePosixPath, folder: Path) -> PurePosixPath | None:
    """The cell of a store that a path leads into, where no reader would find another one."""
    for place in path.parents[:-1]:
        if any((folder / place / name).exists() for name in CELL_FILES):
            return place
    return None


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A hidden folder inside a store, claimed as long as the block runs, and then removed."""
    with disk_errors(folder):
        claimed = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder))
        claim = acquire(claimed, "import", Watch())
    assert claim is not None  # nobody else knows the folder
    try:
        with closing(claim):
            place = claimed / "cells"
            place.mkdir()
            yield place
    finally:
        shutil.rmtree(claimed, ignore_errors=True)


def _members(cell: Path) -> list[Path]:
    """The files of a cell; the identity comes last, so that a part of a copy is no cell. The
    manifest comes after the samples: readers look into what was written after it.

    Raises:
        UnreadableError: one of them is a link or no plain file.
    """
    *names, seals, identity = LIMITS
    files = [cell / name for name in names if name != "samples.jsonl"]
    files += [*sample_files(cell), cell / seals, cell / identity]
    found = [file for file in files if _is_there(file)]
    for file in found:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise UnreadableError(f"{shown(file)} is a link or no plain file; it is not copied")
    return found


def _is_there(file: Path) -> bool:
    return file.is_symlink() or file.exists()


@contextmanager
def _plain(file: Path) -> Iterator[BinaryIO]:
    """A file opened to be read, which is no link."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise UnreadableError(f"{shown(file)} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def _copy(cell: Path, target: Path) -> None:
    """A cell that is not there yet."""
    members = _members(cell)
    with disk_errors(target):
        target.mkdir(stat.S_IMODE(cell.stat().st_mode), parents=True, exist_ok=True)
        for file in members:
            mode = stat.S_IMODE(file.stat().st_mode) & 0o666
            with _plain(file) as content, fresh(target / file.name, mode) as copy:
                shutil.copyfileobj(content, copy)


def _move(cell: Path, target: Path) -> None:
    """The same of an unpacked cell, which becomes the store's at once where nothing is there."""
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            _copy(cell, target)
        else:
            cell.rename(target)


def _join(cell: Path, target: Path, merged: Merged) -> None:
    """The samples of a cell that both stores have, and what else this one lacks."""
    theirs, environments = read_samples(cell)
    # theirs were read first: both must be whole before anything is written
    ours, _ = read_samples(target)
    merged.conflicts += [
        f"{target.name} {shown(name)}"
        for name in theirs.keys() & ours.keys()
        if theirs[name].get("answer") != ours[name].get("answer")
    ]
    new = [sample for name, sample in theirs.items() if name not in ours]
    with disk_errors(target):
        _add_replies(cell, target)
        for run in sorted({sample.get("run", 0) for sample in new}):
            # a writer's file has one environment, so each run gets a file of its own
            lines = [line_of({"environment": environments[run]})] + [
                line_of(sample) for sample in new if sample.get("run", 0) == run
            ]
            _add_writer(target, b"".join(lines))
    if new:
        merged.grown += 1
    else:
        merged.same += 1


def _add_replies(cell: Path, target: Path) -> None:
    """Replies of a judge to requests that this store has none to: each was paid for."""
    theirs, ours = _replies(cell), _replies(target)
    new = {request: line for request, line in theirs.items() if request not in ours}
    if new:
        manifest.renew(target, "judge.jsonl", b"".join([*ours.values(), *new.values()]))


def _replies(cell: Path) -> dict[str, bytes]:
    """The lines of a cell's ``judge.jsonl`` by what was asked, without damaged ones."""
    try:
        lines = read_bytes(cell / "judge.jsonl", LIMITS["judge.jsonl"]).split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    found: dict[str, bytes] = {}
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            if (content := sound(line)) is not None:
                found[str(parsed_json(content)["request"])] = line + b"\n"
    return found


def _add_writer(target: Path, content: bytes) -> None:
    """A further writer's file, made whole at once."""
    number = len(list(target.glob("samples-*.jsonl")))
    while (target / f"samples-{number}.jsonl").exists():
        number += 1
    replace(target / f"samples-{number}.jsonl", content)
