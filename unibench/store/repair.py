"""Finding damage in a store, and mending it without losing a sample."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unibench.errors import UsageError, of_file
from unibench.store import manifest
from unibench.store.data import (
    UnreadableError,
    parsed_json,
    read_bytes,
    reading_once,
    seen_mapping,
)
from unibench.store.files import appending, disk_errors, read_json, replace
from unibench.store.folder import (
    SAMPLES,
    DamagedError,
    forget_parts,
    read_row,
    read_samples,
    sample_files,
)
from unibench.store.index import cells_below, identity_fault, leftovers, links_below, sweep
from unibench.store.lines import (
    ENVIRONMENT_BEGINS,
    Shape,
    environment_of,
    is_environment,
    parsed,
    sound,
)
from unibench.store.unpack import limit_of


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


@dataclass(frozen=True)
class Finished:
    """A finished cell all of whose files can be read.

    Attributes:
        folder: where it lies.
        samples: by id, in the order of the task.
        environments: that their ``run`` counts.
        sealed: whether it has a manifest; earlier versions wrote none.
    """

    folder: Path
    samples: Mapping[str, Mapping[str, Any]]
    environments: Sequence[Mapping[str, Any]]
    sealed: bool


Examine = Callable[[Finished], Iterable[Problem]]


def verify(folder: Path, examine: Examine = lambda cell: ()) -> list[Problem]:
    """Everything that is wrong with the cells of a store.

    A torn last line of a writer that was killed is no damage.

    Args:
        folder: of results, or of a cell.
        examine: says what else is wrong with a finished cell that can be read.
    """
    found: list[Problem] = []
    for cell in cells_below(folder):
        with reading_once():
            found += _verified(cell, examine)
    found += [
        Problem(
            place,
            "left by a killed command; no reader counts it",
            f"the next command that writes to {folder} removes it",
        )
        for place in leftovers(folder)
    ]
    found += [
        Problem(
            place,
            "is a link; no reader follows it",
            "put what it points to in its place, or remove it",
        )
        for place in links_below(folder)
        if limit_of(place.name) is None
    ]
    return found


def repair(folder: Path) -> int:
    """Set damaged lines of samples and damaged files aside as ``*.damaged``; returns how many.

    What was set aside is answered or written again by the same run as before. A cell that cannot
    be mended keeps no other from it.

    Raises:
        UsageError: the folder holds no cell, or one of them cannot be read or written; the others
            are mended all the same.
    """
    cells = list(cells_below(folder))
    if not cells:
        raise UsageError(
            f"{folder} holds no cell; give the folder of results or of a cell,"
            " outputs/<model>/<task>/<method>/<key>"
        )
    sweep(folder)
    count, failures = 0, list[UsageError]()
    for cell in cells:
        try:
            count += _repair_cell(cell)
        except UsageError as error:
            failures.append(error)
    if failures:
        more = f"; {len(failures) - 1} more cells likewise" if failures[1:] else ""
        raise UsageError(f"{failures[0]}{more}. {count} damaged lines and files were set aside")
    return count


def _verified(cell: Path, examine: Examine) -> Iterator[Problem]:
    """What is wrong with a cell; where a file of it cannot be read, that is."""
    try:
        os.listdir(cell)
        yield from _verify_cell(cell, examine)
    except (UnreadableError, OSError) as error:
        what = of_file(error) or error
        yield Problem(cell, f"cannot be read: {what}", "have its owner let you read it")


def _verify_cell(cell: Path, examine: Examine) -> Iterator[Problem]:
    row, named = read_row(cell), set[Path]()
    try:
        whole = read_samples(cell)
    except DamagedError:
        whole = None
    for problem in _unreadable(cell, look_at_lines=whole is None):
        named.add(problem.file)
        yield problem
    mend = f"python -m unibench store repair {cell}, then run the same command again"
    for fault in manifest.faults(cell, finished=row is not None):
        if fault.file not in named:  # what is wrong inside of a file says more
            yield Problem(fault.file, fault.what, mend)
    if row is not None and whole is not None:
        samples, environments = whole
        yield from _verify_row(cell, row, samples)
        sealed = (cell / manifest.NAME).exists()
        yield from examine(Finished(cell, samples, environments, sealed))


def _unreadable(cell: Path, *, look_at_lines: bool) -> Iterator[Problem]:
    """What the files of a cell show by themselves."""
    mend, again = f"python -m unibench store repair {cell}", "run the same command again"
    if not isinstance(read_json(cell / "identity.json"), dict):
        yield Problem(cell / "identity.json", "cannot be read", again)
    elif (fault_of_key := identity_fault(cell)) is not None:
        yield Problem(
            cell / "identity.json",
            fault_of_key,
            f"use the unibench that wrote it, or remove {cell}",
        )
    for file in _damaged_files(cell):
        what = "cannot be read" if _is_plain(file) else "is a link or no plain file"
        yield Problem(file, what, mend)
    try:
        seen_mapping(cell / "config.yaml")
    except UnreadableError as error:
        yield Problem(cell / "config.yaml", f"cannot be read: {error}", again)
    for file in filter(_is_plain, sample_files(cell)):
        if _is_end_damaged(file):
            yield Problem(file, "the end of the last line is damaged", mend)
    if look_at_lines:
        for file, number in _damaged_lines(cell):
            yield Problem(file, f"line {number} is damaged", mend)


def _verify_row(
    cell: Path, row: dict[str, Any], samples: dict[str, dict[str, Any]]
) -> Iterator[Problem]:
    # each line is sound, so it is a sample or begins as an environment does
    lines = sum(
        not line.startswith(ENVIRONMENT_BEGINS)
        for file in sample_files(cell)
        for line in read_bytes(file, SAMPLES).split(b"\n")[:-1]
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


def _is_end_damaged(file: Path) -> bool:
    """Whether a file ends in another sign than the end of its last, whole line: no kill leaves that
    behind.
    """
    torn = read_bytes(file, SAMPLES).rpartition(b"\n")[2]
    return bool(torn) and parsed(torn[:-1]) is not None


def _repair_cell(cell: Path) -> int:
    with disk_errors(cell):
        row = cell / "metrics.json"
        finished = read_row(cell) is not None
        changed = [fault.file for fault in manifest.faults(cell, finished=finished)]
        # of a file of lines each line is looked at
        # a changed line is set aside by itself, the others stay
        whole = [file for file in changed if file.suffix != ".jsonl" and file.exists()]
        aside = dict.fromkeys([*_damaged_files(cell), *whole])
        for file in aside:  # a link is moved itself, whatever it points to
            file.replace(file.with_name(f"{file.name}.damaged"))
        shape = _shape(cell)
        count = len(aside) + sum(_set_lines_aside(file, shape) for file in sample_files(cell))
        count += _set_replies_aside(cell / "judge.jsonl")
        if finished and changed and not count:  # something is gone: the row is of other files
            row.replace(row.with_name(f"{row.name}.damaged"))
            count = 1
        if count:
            # the row and the manifest follow from files that have changed: the next run writes both
            row.unlink(missing_ok=True)
            (cell / manifest.NAME).unlink(missing_ok=True)
            forget_parts(cell)
    return count


def _set_replies_aside(file: Path) -> int:
    """Move damaged replies of a judge to ``judge.jsonl.damaged``; returns how many."""
    if not file.exists():
        return 0
    *lines, torn = read_bytes(file, SAMPLES).split(b"\n")
    bad = [line for line in (*lines, *filter(None, [torn])) if not _is_reply(line)]
    if bad:
        with appending(file.with_name(f"{file.name}.damaged")) as aside:
            aside.write(b"\n".join(bad) + b"\n")
        replace(file, b"".join(line + b"\n" for line in lines if line not in bad))
    return len(bad)


def _is_reply(line: bytes) -> bool:
    try:
        entry = parsed_json(sound(line) or b"")
    except ValueError:
        return False
    return isinstance(entry, dict) and "request" in entry and isinstance(entry.get("reply"), dict)


def _damaged_files(cell: Path) -> list[Path]:
    whole = {
        "env.json": isinstance(environments := read_json(cell / "env.json"), list)
        and all(map(is_environment, environments)),
        "status.json": isinstance(read_json(cell / "status.json"), dict),
        "metrics.json": read_row(cell) is not None,
    }
    found = [cell / name for name, sound in whole.items() if not sound and (cell / name).exists()]
    plain = [file for file in cell.iterdir() if limit_of(file.name) is not None]
    return found + [file for file in plain if file not in found and not _is_plain(file)]


def _is_plain(file: Path) -> bool:
    """Whether a file is a regular one, and no link to one."""
    return stat.S_ISREG(file.lstat().st_mode)


def _set_lines_aside(file: Path, shape: Shape) -> int:
    """Move damaged lines, a torn last one too, to ``samples.damaged``; returns how many."""
    *lines, torn = read_bytes(file, SAMPLES).split(b"\n")
    whole, bad, names = list[bytes](), list[bytes](), set[str]()
    for line in lines:
        sample = parsed(line)
        # of two lines of one sample the first counts, for every reader
        twice = sample is not None and sample["id"] in names
        (bad if twice or not _is_whole(line, shape) else whole).append(line)
        names |= {sample["id"]} if sample is not None else set()
    bad += [torn] if torn else []
    if bad:
        with appending(file.parent / "samples.damaged") as aside:
            aside.write(b"\n".join(bad) + b"\n")
        replace(file, b"".join(line + b"\n" for line in whole))
    return len(bad)


def _damaged_lines(cell: Path) -> Iterator[tuple[Path, int]]:
    shape = _shape(cell)
    for file in filter(_is_plain, sample_files(cell)):
        for number, line in enumerate(read_bytes(file, SAMPLES).split(b"\n")[:-1], 1):
            if not _is_whole(line, shape):
                yield file, number


def _shape(cell: Path) -> Shape:
    """What a cell's readable lines agree on."""
    files = filter(_is_plain, sample_files(cell))
    samples = (parsed(line) for file in files for line in read_bytes(file, SAMPLES).split(b"\n"))
    known = (sample for sample in samples if sample is not None)
    return Shape.of(known, read_json(cell / "identity.json"))


def _is_whole(line: bytes, shape: Shape) -> bool:
    sample = parsed(line)
    return environment_of(line) is not None if sample is None else shape.fits(sample)
