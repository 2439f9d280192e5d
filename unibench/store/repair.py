"""Finding damage in a store, and mending it without losing a sample."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unibench.errors import UsageError
from unibench.identity import READABLE
from unibench.store.files import disk_errors, read_json, replace
from unibench.store.folder import (
    DamagedError,
    environment_of,
    forget_parts,
    parsed,
    read_row,
    read_samples,
    sample_files,
)
from unibench.store.index import cells_below


@dataclass(frozen=True)
class Problem:
    """Something wrong with a cell.

    Attributes:
        file: where.
        what: for people.
        mend: the command that mends it.
    """

    file: Path
    what: str
    mend: str


def verify(folder: Path) -> list[Problem]:
    """Everything that is wrong with the cells of a store.

    A torn last line of a writer that was killed is no damage.
    """
    return [problem for cell in cells_below(folder) for problem in _verify_cell(cell)]


def repair(folder: Path) -> int:
    """Set damaged lines of samples and damaged files aside as ``*.damaged``; returns how many.

    What was set aside is answered or written again by the same run as before.

    Raises:
        UsageError: the folder holds no cell.
    """
    cells = list(cells_below(folder))
    if not cells:
        raise UsageError(
            f"{folder} holds no cell; give the folder of results or of a cell,"
            " outputs/<model>/<task>/<method>/<key>"
        )
    return sum(_repair_cell(cell) for cell in cells)


def _verify_cell(cell: Path) -> Iterator[Problem]:
    mend, again = f"python -m unibench store repair {cell}", "run the same command again"
    identity = read_json(cell / "identity.json")
    if not isinstance(identity, dict):
        yield Problem(cell / "identity.json", "cannot be read", again)
    elif identity.get("schema") not in READABLE:
        yield Problem(
            cell / "identity.json",
            f"schema {identity.get('schema')}; this unibench reads {READABLE}",
            "use the unibench that wrote it",
        )
    elif key_of(identity) != cell.name:
        yield Problem(
            cell / "identity.json",
            f"hashes to {key_of(identity)}, which is not the folder's name",
            f"remove {cell}",
        )
    for file in _damaged_files(cell):
        yield Problem(file, "cannot be read", mend)
    try:
        yaml.safe_load((cell / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        yield Problem(cell / "config.yaml", "cannot be read", again)
    try:
        samples, _ = read_samples(cell)
    except DamagedError:
        yield from (
            Problem(file, f"line {number} is damaged", mend)
            for file, number in _damaged_lines(cell)
        )
        return
    row = read_row(cell)
    if row is not None:
        yield from _verify_row(cell, row, samples)


def _verify_row(
    cell: Path, row: dict[str, Any], samples: dict[str, dict[str, Any]]
) -> Iterator[Problem]:
    lines = sum(
        parsed(line) is not None
        for file in sample_files(cell)
        for line in file.read_bytes().split(b"\n")
    )
    if row.get("n") != len(samples):
        yield Problem(
            cell / "metrics.json",
            f"counts {row.get('n')} samples, there are {len(samples)}",
            f"remove {cell / 'metrics.json'}, run again",
        )
    if lines != len(samples):
        yield Problem(
            cell / "samples.jsonl",
            f"{lines - len(samples)} samples are there twice",
            f"python -m unibench store repair {cell}",
        )


def _repair_cell(cell: Path) -> int:
    with disk_errors(cell):
        count = sum(_set_lines_aside(file) for file in sample_files(cell))
        for file in _damaged_files(cell):
            file.replace(file.with_name(f"{file.name}.damaged"))
            count += 1
        if count:
            (cell / "metrics.json").unlink(missing_ok=True)
            forget_parts(cell)
    return count


def _damaged_files(cell: Path) -> list[Path]:
    whole = {
        "env.json": isinstance(read_json(cell / "env.json"), list),
        "status.json": isinstance(read_json(cell / "status.json"), dict),
        "metrics.json": read_row(cell) is not None,
    }
    return [cell / name for name, sound in whole.items() if not sound and (cell / name).exists()]


def _set_lines_aside(file: Path) -> int:
    """Move damaged lines, a torn last one too, to ``samples.damaged``; returns how many."""
    *whole, torn = file.read_bytes().split(b"\n")
    bad = [line for line in whole if not _readable(line)] + ([torn] if torn else [])
    if bad:
        with (file.parent / "samples.damaged").open("ab") as aside:
            aside.write(b"\n".join(bad) + b"\n")
            os.fsync(aside.fileno())
        replace(file, b"".join(line + b"\n" for line in whole if _readable(line)))
    return len(bad)


def _damaged_lines(cell: Path) -> Iterator[tuple[Path, int]]:
    for file in sample_files(cell):
        for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
            if not _readable(line):
                yield file, number


def _readable(line: bytes) -> bool:
    return parsed(line) is not None or environment_of(line) is not None


def key_of(identity: dict[str, Any]) -> str:
    """The key that an identity hashes to; the name of the cell's folder."""
    return hashlib.sha256(
        json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()[:16]
