"""What parent and child say to each other: a job file one way, lines of JSON the other.

==========  =====================================================
event       content
==========  =====================================================
cell        ``done``, ``total``, ``environment``: a cell is begun; ``together``: numbers of
            the cells of the job that are answered with it, ``fused``: the keys of all
sample      ``record``: a line for ``samples.jsonl``; where cells are answered together, ``cell``:
            number of its cell, and ``left``: of how many more the sample's answers follow
lost        ``cell``, ``left``, ``message``, ``usage``: a cell beside the first has failed
answered    ``peak_mib``: all samples are there, scoring begins
collected   ``total``, ``names``: the questions that an engine is to answer are written down
result      a :class:`~unibench.inference.verdict.Verdict`
fetched     ``name``, ``fine``, ``message``: a benchmark's data
done        the last benchmark of a prefetch was tried
refused     ``message``: the user can mend it
failed      ``message``: anything else; the traceback is in run.log
==========  =====================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unibench.config import INSIDE, Harness, RunConfig, resolved, typed
from unibench.credentials import FromEnvironment, written
from unibench.identity import Cell, cells_of
from unibench.store.files import replace as replace_file


def write_job(cells: Iterable[Cell], file: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write resolved cells, and what else is to be said about them, for a process that may run
    elsewhere.
    """
    jobs = [
        {
            "key": cell.key,
            "device": cell.identity["device"],
            "config": written(asdict(_absolute(cell.config))),
        }
        for cell in cells
    ]
    replace_file(file, json.dumps({**(about or {}), "cells": jobs}, indent=1))


def read_job(file: Path) -> list[Cell]:
    """The cells of a job.

    Raises:
        ValueError: this code makes other cells of it than the code that wrote it.
    """
    entries = json.loads(file.read_text(encoding="utf-8"))["cells"]
    # made anew from the configuration, so that the key is this code's own
    cells = cells_of(typed(resolved(entry["config"])) for entry in entries)
    for entry, cell in zip(entries, cells, strict=True):
        there, here = entry.get("device"), cell.identity["device"]
        # the likelier reason first: the same code on another kind of machine
        if cell.key != entry["key"] and there not in (None, here):
            raise ValueError(
                f"{file}: model.device=auto is {there} where the command was given and {here} here,"
                f" and numbers of the two differ in rounding: give model.device={there} or {here}"
            )
        if cell.key != entry["key"]:
            raise ValueError(
                f"{file} was written by another version of unibench: key {entry['key']} is"
                f" {cell.key} here"
            )
    return cells


WORK = "harness"  # folder of a cell for what a harness writes while it asks and scores
TOGETHER = {"together": True}  # about a job whose cells are answered together
COLLECTING = {"collecting": True}  # about one whose questions are written down for an engine


def is_together(file: Path) -> bool:
    """Whether the cells of a job are answered together."""
    return bool(json.loads(file.read_text(encoding="utf-8")).get("together"))


def is_collecting(file: Path) -> bool:
    """Whether the questions of a job are written down for an engine."""
    return bool(json.loads(file.read_text(encoding="utf-8")).get("collecting"))


def read_prefetch(file: Path) -> tuple[Harness, list[str]] | None:
    """Harness and names of a job that only fetches data, None for any other."""
    job = json.loads(file.read_text(encoding="utf-8"))
    return (job["harness"], job["prefetch"]) if "prefetch" in job else None


def write_prefetch(harness: Harness, names: list[str], file: Path) -> None:
    """A job that only fetches data."""
    replace_file(file, json.dumps({"harness": harness, "prefetch": names}))


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers of numpy as numbers, not-a-number as None, what is unknown as
    text.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    # numbers of numpy are no int or float of Python
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        return plain(value.item())
    if isinstance(value, float):
        # JSON has no NaN
        return value if value == value else None
    return str(value)


def _absolute(config: RunConfig) -> RunConfig:
    """The same cell whatever the folder it is read in."""
    return replace(
        config,
        out=str(Path(config.out).absolute()),
        model=replace(config.model, path=_place(config.model.path)),
        task=replace(config.task, data=_place(config.task.data)),
    )


def _place(path: str | None) -> str | None:
    """A path from the root; what follows the environment is followed where the job is read."""
    if path is None or path.startswith(INSIDE) or isinstance(path, FromEnvironment):
        return path
    return str(Path(path).expanduser().absolute())
