"""Whether a row is what its samples give, and a score what the answer gives.

A row that was edited, or made of other samples, has no other sign of it: keys and files are sound.
The scorer that runs here is that of this installation's own task of the same name; a stranger's is
never run, and what a harness scored is compared with its verdict alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from unibench.asked import Scorer, scorer_of
from unibench.errors import UsageError, shown
from unibench.identity import POSITIONS
from unibench.inference.record import Record, of_checked
from unibench.inference.row import Row, change_from, of_samples, read_row
from unibench.inference.verdict import Verdict
from unibench.store import Problem, cells_below, read_samples, verify
from unibench.store.files import read_json
from unibench.store.repair import Finished
from unibench.store.unpack import limit_of

CLOSE = 1e-6  # relative, or of a point: other versions of numpy may add up in another order


@dataclass
class Checked:
    """What a check found.

    Attributes:
        problems: damage, rows that are not what their samples give, scores that the answers do not
            give.
        unverified: why scores could not be given again, by folder.
        unsealed: finished cells of an earlier version, which have no manifest of their files.
        damaged: what is wrong with finished cells, by folder; not where a row and that of vanilla,
            each right by itself, do not belong together.
    """

    problems: list[Problem] = field(default_factory=list)
    unverified: dict[Path, str] = field(default_factory=dict)
    unsealed: list[Path] = field(default_factory=list)
    damaged: dict[Path, str] = field(default_factory=dict)


@dataclass
class Vanillas:
    """The unpruned cells of the task at which a walk through a store has come.

    Attributes:
        task: its folder.
        rows: of them, by setting.
        samples: of those that were asked for, by setting; None where they are damaged.
    """

    task: Path | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    samples: dict[str, Mapping[str, Mapping[str, Any]] | None] = field(default_factory=dict)

    def beside(self, cell: Path, row: Row) -> Mapping[str, Mapping[str, Any]] | None:
        """The samples that a pruned cell is compared with; None where it has none in the store, or
        they are damaged.
        """
        task = cell.parent.parent
        if task != self.task:
            # one task at a time: the samples of a whole store may be more than memory holds
            self.task, self.rows, self.samples = task, {}, {}
            place = task / "vanilla"
            there = place.is_dir() and not place.is_symlink()  # a link is followed by no reader
            for folder in cells_below(place) if there else ():
                with suppress(UsageError):
                    vanilla = read_row(folder)
                    self.rows[vanilla.setting] = vanilla
        reference = self.rows.get(row.setting)
        if reference is None or row.method == "vanilla":
            return None
        if row.setting not in self.samples:
            self.samples[row.setting] = None
            with suppress(UsageError):
                self.samples[row.setting] = read_samples(Path(reference.folder))[0]
        return self.samples[row.setting]


def recheck(folder: Path, trusted: Collection[str] = ()) -> Checked:
    """Look for damage in a store, and recompute the rows of its finished cells from their samples.

    Args:
        folder: of results.
        trusted: scorers in files of one's own, ``<path>:<function>``, that may be run.

    Raises:
        UsageError: there is no such folder.
    """
    checked, rows, vanillas = Checked(), dict[Path, Row](), Vanillas()
    scorers: dict[str, Scorer] = {}
    apart: list[Problem] = []  # what a row and that of vanilla say of each other

    def examine(cell: Finished) -> Iterator[Problem]:
        if not cell.sealed:
            checked.unsealed.append(cell.folder)
        try:
            rows[cell.folder] = row = read_row(cell.folder)
            records = [of_checked(sample) for sample in cell.samples.values()]
        except UsageError as error:
            yield _problem(cell.folder, str(error))
            return
        for line in _differing(row, records, cell.environments):
            yield _problem(cell.folder, line)
        before = vanillas.beside(cell.folder, row) if row.change is not None else None
        if before is not None:
            apart.extend(_changed(row, before, records))
        try:
            yield from _rescored(cell.folder, row, records, scorers, trusted)
        except UsageError as error:
            checked.unverified[cell.folder] = str(error).removeprefix(f"{cell.folder}: ")

    checked.problems += verify(folder, examine)
    for problem in checked.problems:
        cell = problem.file.parent
        own = limit_of(problem.file.name) is not None  # no leftover, and no stranger's link
        if own and os.path.lexists(cell / "metrics.json"):
            checked.damaged.setdefault(cell, f"{problem.file.name}: {problem.what}")
    unpruned = {row.setting: row for row in rows.values() if row.method == "vanilla"}
    for folder_of_cell, row in rows.items():
        reference = unpruned.get(row.setting)
        if reference is not None and not _same(row.vanilla_100, reference.score_100):
            line = f"vanilla_100 is {row.vanilla_100}, vanilla here scores {reference.score_100}"
            apart.append(_problem(folder_of_cell, line))
    checked.problems += apart
    return checked


def _changed(
    row: Row, before: Mapping[str, Mapping[str, Any]], records: Sequence[Record]
) -> Iterator[Problem]:
    """Whether vanilla's answers became what a row says."""
    found = change_from(before, records)
    if found is not None and not _same(row.change, found):
        what = f"change is {_brief(row.change)}, its samples give {_brief(found)}"
        yield _problem(Path(row.folder), what)


def _problem(cell: Path, what: str) -> Problem:
    file = cell / "metrics.json"
    return Problem(file, what, f"remove {file} and run the same command again")


def _differing(
    row: Row, records: Sequence[Record], environments: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Columns of a row that are not what its samples, its verdict and its identity give."""
    verdict = None
    if row.harness != "none":
        try:
            verdict = Verdict.from_json(read_json(Path(row.folder) / "harness.json"))
        except UsageError:
            yield "its harness.json is missing or damaged, so that its score cannot be checked"
            return
    try:
        timed = row.identity.get("timing", True) is not False
        given = of_samples(records, environments, row.metric, verdict, timed=timed)
    except (ValueError, KeyError, ZeroDivisionError) as error:
        yield f"no row can be made of its samples: {shown(error)}"
        return
    if not row.versions:  # a row of before there was this column
        del given["versions"]
    if verdict is not None:
        # one more is of the convention, whose card may say something else by now
        said = [*given["notes"], *verdict.remarks]
        of_card = [note for note in row.notes if note not in said][:1]
        given["notes"] = [note for note in row.notes if note in said or note in of_card]
        given["notes"] += [note for note in said if note not in row.notes]
    try:
        given |= _of_identity(row)
    except (KeyError, TypeError, ValueError) as error:
        yield f"its identity cannot be compared with it: {shown(error)}"
        return
    if row.drop_pct is not None and row.vanilla_100:
        given["drop_pct"] = 100 * (row.vanilla_100 - row.score_100) / row.vanilla_100
    if row.retention_pct is not None and row.vanilla_100:
        given["retention_pct"] = 100 * row.score_100 / row.vanilla_100
    for name, value in given.items():
        if not _same(getattr(row, name), value):
            yield f"{name} is {_brief(getattr(row, name))}, its samples give {_brief(value)}"


def _of_identity(row: Row) -> dict[str, Any]:
    """What the key of a cell says of its row."""
    identity, method = row.identity, dict(row.identity["method"])
    name, budget = method.pop("name"), identity["budget"]
    name = identity.get("control", name)
    return {
        "model": identity["model"]["name"],
        "weights": identity["model"]["weights"],
        "dtype": identity["model"]["dtype"],
        "attn": identity["model"]["attn"],
        "task": identity["task"]["name"],
        "method": name,
        "method_options": method,
        "budget": "0" if name == "vanilla" else budget["label"],
        "budget_mode": budget["mode"],
        "budget_scope": budget["scope"],
        "positions": identity.get("positions", POSITIONS),
        "seed": identity["seed"],
        "key": Path(row.folder).name,
    }


def _rescored(
    cell: Path,
    row: Row,
    records: Sequence[Record],
    scorers: dict[str, Scorer],
    trusted: Collection[str],
) -> Iterator[Problem]:
    """Samples whose score is not what their answer gets.

    Raises:
        UsageError: nobody here can tell.
    """
    if row.harness != "none":
        raise UsageError("its harness gave the scores")
    scorer = scorer_of(cell, len(records), scorers, trusted)
    wrong = [
        record.id
        for record in records
        if record.id not in scorer or not _same(record.score, scorer[record.id](record.answer))
    ]
    if wrong:
        names = ", ".join(map(shown, wrong[:3])) + (", ..." if len(wrong) > 3 else "")
        yield Problem(
            cell / "samples.jsonl",
            f"{len(wrong)} scores are not what the answers get: {names}",
            f"remove {cell} and run the same command again",
        )


def _same(stored_value: Any, given: Any) -> bool:
    """Whether two values are equal, numbers up to :data:`CLOSE`."""
    if is_dataclass(given) and not isinstance(given, type):
        return type(stored_value) is type(given) and _same(vars(stored_value), vars(given))
    if isinstance(given, Mapping):
        return (
            isinstance(stored_value, Mapping)
            and stored_value.keys() == given.keys()
            and all(_same(stored_value[key], value) for key, value in given.items())
        )
    if isinstance(given, (list, tuple)):
        return (
            isinstance(stored_value, (list, tuple))
            and len(stored_value) == len(given)
            and all(map(_same, stored_value, given))
        )
    if isinstance(given, float) and isinstance(stored_value, (int, float)):
        both_unknown = math.isnan(given) and math.isnan(stored_value)
        return both_unknown or math.isclose(stored_value, given, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(stored_value == given)


def _brief(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
