"""Moving cells between stores: folder into folder, a store as one file, and back."""

from __future__ import annotations

import logging
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unibench.errors import UsageError
from unibench.store.files import disk_errors, replace
from unibench.store.folder import line_of, read_samples, sample_files
from unibench.store.index import cells_below

log = logging.getLogger(__name__)
FILES = (
    "config.yaml",
    "identity.json",
    "env.json",
    "status.json",
    "metrics.json",
    "run.log",
    "samples.damaged",
)


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        new: cells that were not there.
        grown: cells that had fewer samples.
        same: cells that had all of them.
        conflicts: samples that both stores had, with different answers; the one that was there
            stays.
    """

    new: int
    grown: int
    same: int
    conflicts: tuple[str, ...]


def merge(source: Path, into: Path) -> Merged:
    """Add the cells and samples of one store to another; the source stays as it is.

    A cell that both have only in part gets the samples of both; the next run of it answers what is
    still missing and writes its row.

    Raises:
        UsageError: no such folder, a damaged cell, or a disk that cannot be written.
    """
    counts = {"new": 0, "grown": 0, "same": 0}
    conflicts: list[str] = []
    for cell in cells_below(source):
        target = into / cell.relative_to(source)
        if not (target / "identity.json").exists():
            counts["new"] += 1
            _copy(cell, target)
        else:
            kind, different = _join(cell, target)
            counts[kind] += 1
            conflicts += different
    return Merged(counts["new"], counts["grown"], counts["same"], tuple(conflicts))


def export(folder: Path, file: Path) -> int:
    """Pack the cells of a store into one ``.tar.gz``; returns how many.

    Raises:
        UsageError: no such folder, or it holds no cell.
    """
    cells = list(cells_below(folder))
    if not cells:
        raise UsageError(f"{folder} holds no cell")
    with disk_errors(file.parent):
        temporary = file.with_name(f".{file.name}.tmp")
        with tarfile.open(temporary, "w:gz") as archive:
            for cell in cells:
                for member in _members(cell):
                    archive.add(member, arcname=str(member.relative_to(folder)), recursive=False)
        temporary.replace(file)
    return len(cells)


def import_(file: Path, folder: Path) -> Merged:
    """Unpack what :func:`export` packed and merge it into a store.

    Raises:
        UsageError: no such file, or no archive of cells.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        unpacked = Path(tempfile.mkdtemp(prefix=".import-", dir=folder))
    try:
        with disk_errors(folder), tarfile.open(file) as archive:
            archive.extractall(unpacked, filter="data")
        if next(cells_below(unpacked), None) is None:
            raise UsageError(f"{file} holds no cell")
        return merge(unpacked, folder)
    except (tarfile.TarError, EOFError) as error:
        raise UsageError(f"{file} is no archive of `store export`: {error}") from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _members(cell: Path) -> Iterable[Path]:
    return [
        file for file in (*(cell / name for name in FILES), *sample_files(cell)) if file.is_file()
    ]


def _copy(cell: Path, target: Path) -> None:
    """A cell that is not there yet; its identity comes last, so that a part of it is no cell."""
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(_members(cell), key=lambda file: file.name == "identity.json"):
            replace(target / file.name, file.read_bytes())


def _join(cell: Path, target: Path) -> tuple[str, list[str]]:
    theirs, environments = read_samples(cell)
    ours, _ = read_samples(target)
    different = [
        f"{target.name} {name}"
        for name in theirs.keys() & ours.keys()
        if theirs[name].get("answer") != ours[name].get("answer")
    ]
    new = [sample for name, sample in theirs.items() if name not in ours]
    if not new:
        return "same", different
    with disk_errors(target):
        for run in sorted({sample.get("run", 0) for sample in new}):
            lines = [line_of({"environment": environments[run]})] + [
                line_of(sample) for sample in new if sample.get("run", 0) == run
            ]
            _add_writer(target, b"".join(lines))
    return "grown", different


def _add_writer(target: Path, content: bytes) -> None:
    """A further writer's file, made whole at once."""
    number = len(list(target.glob("samples-*.jsonl")))
    while (target / f"samples-{number}.jsonl").exists():
        number += 1
    replace(target / f"samples-{number}.jsonl", content)
