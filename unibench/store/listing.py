"""What the cells of a store are, one by one: for lists, and to tell two of them apart."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unibench.errors import UsageError, shown, unknown
from unibench.store.contents import Entry, entries
from unibench.store.files import read_json
from unibench.store.index import CELL_FILES, cells_below
from unibench.store.lines import LARGEST

MIB = 1 << 20
FILTERS = ("model", "task", "method", "budget", "seed", "state", "host", "user", "key")


@dataclass(frozen=True)
class Listed:
    """A cell of a store.

    Attributes:
        key: of the cell, the name of its folder.
        model, task, method, budget, seed: what it is of, as its identity says.
        state: done, failed, partial or damaged.
        score: out of 100, of a done cell.
        n: answered samples.
        date: when it was last written, UTC.
        host: where its last run was.
        user: who owns its files here.
        mib: size of its files.
        why: it failed, or counts as damaged.
        folder: where it lies.
    """

    key: str
    model: str
    task: str
    method: str
    budget: str
    seed: int
    state: str
    score: float | None
    n: int
    date: str
    host: str
    user: str
    mib: float
    why: str
    folder: str


def listed(folder: Path, filters: Mapping[str, str]) -> list[Listed]:
    """The cells of a store that filters let pass, in the order of their paths.

    Args:
        folder: of results.
        filters: value by column of :data:`FILTERS`, or several between commas.

    Raises:
        UsageError: there is no such folder, or no cell has such a value.
    """
    found = [_listed(entry) for entry in entries(folder)]
    for name, value in filters.items():
        known = {str(getattr(one, name)) for one in found}
        wanted = [value] if value in known else value.split(",")
        for one in wanted if known else ():
            if one not in known:
                raise unknown(name, one, known, f"of the cells in {folder}")
        found = [one for one in found if str(getattr(one, name)) in wanted]
    return found


def _listed(entry: Entry) -> Listed:
    identity = read_json(entry.folder / "identity.json")
    files = list(_states(entry.folder))
    last = max((state.st_mtime for state in files), default=0.0)
    why = failure_of(entry.folder) if entry.state == "failed" else entry.fault
    row = entry.row or {}
    score = row.get("score_100")
    return Listed(
        key=entry.folder.name,
        model=_at(identity, "model", "name"),
        task=_at(identity, "task", "name"),
        method=_at(identity, "control") or _method(identity),
        budget="0" if _at(identity, "method", "name") == "vanilla" else _budget(identity),
        seed=_seed(identity),
        state=entry.state,
        score=_number(score),
        n=entry.samples,
        date=_date(last),
        host=shown(_host(entry.folder)),
        user=_user(entry.folder),
        mib=sum(state.st_size for state in files) / MIB,
        why=shown(why),
        folder=str(entry.folder),
    )


def failure_of(cell: Path) -> str:
    """Why the last attempt at a cell failed; empty where it did not."""
    status = read_json(cell / "status.json")
    if not isinstance(status, dict) or status.get("state") != "failed":
        return ""
    return shown(status.get("error", ""))


def _number(value: Any) -> float | None:
    """A number of a stored row, which may hold anything."""
    if type(value) not in (int, float) or not abs(value) <= LARGEST:
        return None
    return float(value)


def _date(seconds: float) -> str:
    """A time of a file; empty where it lies outside of all years that a date has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return ""


def _at(values: Any, *keys: str) -> str:
    """A text of a stored identity, which may hold anything."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return "" if values is None else shown(values)


def _method(identity: Any) -> str:
    return _at(identity, "method", "name")


def _budget(identity: Any) -> str:
    """A budget as written, with its mode where that is not the usual one."""
    mode = _at(identity, "budget", "mode")
    label = _at(identity, "budget", "label")
    return label if mode in ("", "at_stage") else f"{label} {mode}"


def _seed(identity: Any) -> int:
    seed = identity.get("seed") if isinstance(identity, Mapping) else None
    return seed if isinstance(seed, int) else 0


def _states(cell: Path) -> Iterator[os.stat_result]:
    with suppress(OSError), os.scandir(cell) as entries:
        for entry in entries:
            with suppress(OSError):
                yield entry.stat(follow_symlinks=False)


def environments(cell: Path) -> list[dict[str, Any]]:
    """Where the runs of a cell were, as far as its files can be read."""
    found = read_json(cell / "env.json")
    runs = found if isinstance(found, list) else [found]
    return [run for run in runs if isinstance(run, dict)]


def _host(cell: Path) -> str:
    runs = environments(cell)
    return str(runs[-1].get("host", "")) if runs else ""


def _user(cell: Path) -> str:
    import pwd

    try:
        owner = cell.stat().st_uid
        return shown(pwd.getpwuid(owner).pw_name)
    except KeyError:  # of another machine
        return str(owner)
    except OSError:
        return ""


def cell_named(folder: Path, name: str) -> Path:
    """The folder of a cell by its key, the beginning of one, or its path.

    Raises:
        UsageError: there is none, or several begin so.
    """
    place = Path(name).expanduser()
    if any((place / file).exists() for file in CELL_FILES):
        return place
    cells = list(cells_below(folder))
    found = [cell for cell in cells if len(name) >= 4 and cell.name.startswith(name)]
    if len(found) > 1:
        keys = ", ".join(cell.name for cell in found)
        raise UsageError(f"several cells in {folder} begin with {name}: {keys}")
    if not found:
        raise unknown("cell", name, [cell.name for cell in cells], f"store list {folder}")
    return found[0]


@dataclass(frozen=True)
class Differing:
    """An entry that two cells do not share.

    Attributes:
        entry: its dotted name.
        first, second: its values; None where a cell has none.
    """

    entry: str
    first: Any
    second: Any


def differing(first: Any, second: Any, name: str = "") -> list[Differing]:
    """The entries in which two nested values differ.

    >>> differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4})
    [Differing(entry='a.c', first=2, second=3), Differing(entry='d', first=None, second=4)]
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        keys = dict.fromkeys([*first, *second])
        pairs = [(key, first.get(key), second.get(key)) for key in keys]
        parts = [differing(a, b, f"{name}.{key}" if name else str(key)) for key, a, b in pairs]
        return [one for part in parts for one in part]
    return [] if first == second else [Differing(name, first, second)]


def nearest_cells(
    identity: Mapping[str, Any], cells: Sequence[Path]
) -> list[tuple[Path, list[Differing]]]:
    """Cells by how few entries tell them from an identity, the nearest first."""
    found = []
    for cell in cells:
        stored = read_json(cell / "identity.json")
        if isinstance(stored, dict):
            found.append((cell, differing(stored, identity)))
    return sorted(found, key=lambda pair: len(pair[1]))
