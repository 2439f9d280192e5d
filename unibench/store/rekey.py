"""Lifting finished cells to the key of the present code, once it was seen to answer as before.

An edit of the code gives a cell another key: its row stays readable and is never continued. Where
the edit changed no number, the row may be lifted. For each group of cells of one model, method and
task, at least :data:`LEAST` of their samples are asked again in a store of their own. Only if each
of them has the same token ids, pixels, kept tokens, answer and score is every cell of the group
copied to its present key. The cells that were there stay as they are, and a lifted row says so.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from unibench.credentials import written
from unibench.errors import UsageError
from unibench.identity import READABLE, Cell, cell_of, key_of, vanilla_of
from unibench.store import manifest, schema2
from unibench.store.cards import cell_in, check_runnable
from unibench.store.data import read_bytes
from unibench.store.files import disk_errors, read_json
from unibench.store.files import replace as write
from unibench.store.folder import read_row, read_samples
from unibench.store.index import cells_below
from unibench.store.lines import DIGESTS, hashed_alike, line_of

LEAST = 20  # samples of a group that are asked again
COMPARED = (*DIGESTS, "last", "answer", "score")
CODE = ("schema", "code", "engine", "source")  # entries of an identity that an edit may change
Ask = Callable[[Sequence[Cell]], Any]  # completes cells in their folders, as runner.work does


@dataclass(frozen=True)
class Finished:
    """A finished cell under an earlier key.

    Attributes:
        folder: where it lies.
        row: its row.
        identity: what its key hashes.
        cell: what its configuration is today, in the same store.
    """

    folder: Path
    row: Mapping[str, Any]
    identity: Mapping[str, Any]
    cell: Cell


@dataclass(frozen=True)
class Group:
    """What became of the cells of one model, method and task.

    Attributes:
        model, method, task: by name.
        cells: folders of the cells under earlier keys.
        asked: samples that were asked again.
        compared: what was equal in all of them.
        lifted: the new folders.
        reasons: why the other cells were not lifted, by folder.
    """

    model: str
    method: str
    task: str
    cells: tuple[Path, ...]
    asked: int
    compared: tuple[str, ...]
    lifted: tuple[Path, ...]
    reasons: Mapping[Path, str]


def rekey(folder: Path, ask: Ask, trusted: Collection[str] = ()) -> Iterator[Group]:
    """Lift what can be lifted of a store; yields group after group, vanilla before the others.

    Args:
        folder: of results, or of a cell.
        ask: completes cells, which are given in a store of their own.
        trusted: methods in files of one's own, see :func:`unibench.store.cards.judged`.

    Raises:
        UsageError: there is no such folder.
    """
    groups: dict[tuple[str, str, str], list[Finished]] = {}
    reasons: dict[tuple[str, str, str], dict[Path, str]] = {}
    for path in cells_below(folder):
        row, identity = read_row(path), read_json(path / "identity.json")
        if row is None or not isinstance(identity, dict):
            continue  # what is not finished is answered again
        name = (str(row.get("model")), str(row.get("method")), str(row.get("task")))
        try:
            # <store>/<model>/<task>/<method>/<key>
            store = path.parents[3] if len(path.parents) > 3 else path.absolute().parents[3]
            stored = cell_in(path, trusted).config
            check_runnable(stored)
            cell = cell_of(replace(stored, out=str(store)))
        except UsageError as error:
            reasons.setdefault(name, {})[path] = str(error)
            groups.setdefault(name, [])
            continue
        # a row under today's key was measured, and goes before a lifted one
        if cell.key != path.name and read_row(cell.folder) is None:
            groups.setdefault(name, []).append(Finished(path, row, identity, cell))
    with tempfile.TemporaryDirectory(prefix="unibench-rekey-") as scratch:
        # a model is loaded once, and vanilla is there before what is compared to it
        for name in sorted(groups, key=lambda name: (name[0], name[1] != "vanilla", name)):
            yield _lift(name, groups[name], reasons.get(name, {}), ask, Path(scratch))


def _lift(
    name: tuple[str, str, str],
    cells: Sequence[Finished],
    reasons: Mapping[Path, str],
    ask: Ask,
    scratch: Path,
) -> Group:
    """Ask for a group, and lift its cells if nothing differs."""
    refused = dict(reasons)
    for cell in cells:
        try:
            reason = _hindrance(cell)
        except UsageError as error:
            reason = str(error)
        refused |= {} if reason is None else {cell.folder: reason}
    able = [cell for cell in cells if cell.folder not in refused]
    folders = (*reasons, *(cell.folder for cell in cells))
    if not able:
        return Group(*name, folders, 0, (), (), refused)
    try:
        asked, compared = _asked(able, ask, scratch)
    except UsageError as error:
        refused |= {cell.folder: str(error) for cell in able}
        return Group(*name, folders, 0, (), (), refused)
    count = sum(map(len, asked))
    every = count == sum(int(cell.row["n"]) for cell in able)
    group = {"asked": count, "all": every, "compared": list(compared)}
    lifted = [_copied(*each, group) for each in zip(able, asked, strict=True)]
    return Group(*name, folders, count, compared, tuple(lifted), refused)


def _hindrance(old: Finished) -> str | None:
    """Why a cell cannot be lifted whatever it answers: its question is another today, or there is
    nothing to compare it to.
    """
    if old.identity.get("schema") not in READABLE or key_of(dict(old.identity)) != old.folder.name:
        return "its identity.json is not the one that its key was made of"
    if old.cell.folder.exists():
        return f"{old.cell.folder} has samples of its own: finish that cell, or remove it"
    if differing := _differing(old):
        return f"not only the code differs today: {', '.join(differing)}"
    if old.cell.method == "vanilla":
        return None
    vanilla = read_row(vanilla_of(old.cell).folder)
    if vanilla is None:
        return "vanilla, which it is compared to, has no row under the present key"
    if vanilla.get("score_100") != old.row.get("vanilla_100"):
        return (
            f"vanilla scored {old.row.get('vanilla_100')} when it was measured and scores"
            f" {vanilla.get('score_100')} under the present key"
        )
    return None


def _differing(old: Finished) -> list[str]:
    """The entries beside those of code in which a stored identity is not today's."""
    today = dict(old.cell.identity)
    stored = {key: value for key, value in old.identity.items() if key not in CODE}
    if old.identity.get("schema") == 2:
        today = schema2.identity_of(old.cell)
        devices = [entry.get("device") for entry in read_samples(old.folder)[1]]
        types = {"cpu" if str(device).startswith("cpu") else "cuda" for device in devices}
        stored["device"], today["device"] = types, {old.cell.identity["device"]}
    if str(stored.get("data")).startswith("code:"):
        stored["data"] = today["data"] = "code:"
    return [key for key, value in stored.items() if not _within(value, today.get(key))]


def _within(stored: Any, today: Any) -> bool:
    """Whether today's value says all that the stored one says; a later schema may say more."""
    if isinstance(stored, dict) and isinstance(today, dict):
        # entries that the stored schema did not have cannot differ
        return all(key in today and _within(value, today[key]) for key, value in stored.items())
    return bool(stored == today)


def _asked(
    cells: Sequence[Finished], ask: Ask, scratch: Path
) -> tuple[list[list[str]], tuple[str, ...]]:
    """Ask for the first samples of each cell again; their names, and what was compared.

    Raises:
        UsageError: something differs, or cannot be answered.
    """
    limit = _limit(cells)
    again = [_first(old.cell, min(limit, int(old.row["n"])), scratch) for old in cells]
    outcome = ask(again)
    for failure in getattr(outcome, "failures", ()):
        raise UsageError(f"asking again failed: {failure.error}")
    compared, names = set(COMPARED), []
    for old, new in zip(cells, again, strict=True):
        before, after = read_samples(old.folder)[0], read_samples(new.folder)[0]
        if not after:
            raise UsageError("asking again gave no answers")
        for name, sample in after.items():
            if name not in before:
                raise UsageError(f"sample {name} is not among those of {old.folder}")
            # earlier records lack digests, or have those of another hash
            other = [
                key
                for key in DIGESTS
                if not (was := before[name].get(key)) or not hashed_alike(was, sample.get(key, ""))
            ]
            here = [key for key in COMPARED if key not in other]
            for key in here:
                if before[name].get(key) != sample.get(key):
                    raise UsageError(f"{key} of sample {name} differs today ({old.folder})")
            compared &= {*here}
        names.append(list(after))
    return names, tuple(key for key in COMPARED if key in compared)


def _limit(cells: Sequence[Finished]) -> int:
    """Samples of each cell that are asked again: :data:`LEAST` of the group or all there are, in
    whole batches, since the prompts beside it may change the last bits of an answer.
    """
    sizes = [int(old.row["n"]) for old in cells]
    batch = max(size if isinstance(size := old.cell.config.batch_size, int) else 1 for old in cells)
    limit = batch
    while sum(min(size, limit) for size in sizes) < min(LEAST, sum(sizes)):
        limit += batch
    return limit


def _first(cell: Cell, limit: int, scratch: Path) -> Cell:
    """The cell with its first samples alone, in a store of its own."""
    config = cell.config
    task = replace(config.task, limit=limit)
    return cell_of(replace(config, out=str(scratch), task=task, shards=1, share="none"))


def _copied(old: Finished, asked: Sequence[str], group: Mapping[str, Any]) -> Path:
    """Copy a cell to its present key: whole, or not at all.

    Args:
        old: the cell.
        asked: its samples that were asked again.
        group: what is to be said of the whole group.

    Raises:
        DiskError: the folder cannot be written.
    """
    target, now = old.cell.folder, time.strftime("%Y-%m-%dT%H:%M:%S%z")
    lifted = {"key": old.folder.name, "samples": list(asked), "time": now, **group}
    note = (
        f"lifted from {old.folder.name}: {len(asked)} of its samples, {group['asked']} of its group"
        f"{' (all there are)' if group['all'] else ''}, asked again gave the same"
        f" {', '.join(group['compared'])}"
    )
    samples, environments = read_samples(old.folder)
    # a row that is made again from the samples says it too
    marked = [{**sample, "notes": [*sample.get("notes", []), note]} for sample in samples.values()]
    row = {
        **old.row,
        "key": old.cell.key,
        "folder": str(target),
        "weights": old.cell.identity["model"]["weights"],
        "notes": sorted({*old.row.get("notes", []), note}),
        "lifted": lifted,
    }
    status = {"state": "done", "n": row["n"], "time": now, "lifted": old.folder.name}
    files: dict[str, str | bytes] = {
        "config.yaml": yaml.safe_dump(
            written(asdict(old.cell.config)), sort_keys=False, allow_unicode=True
        ),
        "identity.json": json.dumps(old.cell.identity, indent=1, sort_keys=True),
        "env.json": json.dumps(environments, indent=1),
        "samples.jsonl": b"".join(map(line_of, marked)),
        "status.json": json.dumps(status),
        "metrics.json": json.dumps(row, indent=1),
    }
    for name in ("harness.json", "run.log"):
        if (old.folder / name).is_file():
            files[name] = read_bytes(old.folder / name)
    contents = {
        name: text.encode() if isinstance(text, str) else text for name, text in files.items()
    }
    contents[manifest.NAME] = manifest.text_of(contents)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = target.parent / f".lifted-{secrets.token_hex(8)}"
        whole.mkdir()
        try:
            for name, content in contents.items():
                write(whole / name, content)
            os.rename(whole, target)  # fails where a worker has begun the cell meanwhile
        finally:
            shutil.rmtree(whole, ignore_errors=True)
    return target
