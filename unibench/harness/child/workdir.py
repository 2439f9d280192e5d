"""Where a cell runs: folders of its own, so that nothing that a harness leaves can serve another
cell.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unibench.harness.job import WORK
from unibench.identity import Cell

# What a harness read from the environment when the child started: the user's own data folders.
USER = {"LMUData": os.environ.get("LMUData"), "HF_HOME": os.environ.get("HF_HOME")}  # noqa: SIM112


@dataclass(frozen=True)
class WorkDirectory:
    """Folders of one cell; they go when it is done.

    Attributes:
        work: current folder, for predictions and submissions.
        lmu: ``LMUData`` of VLMEvalKit: the table, and the pictures unpacked from it.
        hf: ``HF_HOME`` of lmms-eval for data of one's own.
    """

    work: Path
    lmu: Path
    hf: Path


@contextmanager
def work_directory(cell: Cell, *, stays: bool = False) -> Iterator[WorkDirectory]:
    """Work inside the cell's folder; what the process prints goes to its ``run.log``.

    Args:
        cell: the cell.
        stays: leave the folders, since cells that were answered with this one are scored from
            what lies there; whoever handed the cells out removes them.
    """
    folder = cell.folder.absolute()
    root = folder / WORK
    shutil.rmtree(root, ignore_errors=True)  # what a killed run left is not used
    folders = WorkDirectory(root / "work", root / "LMUData", root / "hf")
    for path in vars(folders).values():
        path.mkdir(parents=True)
    # published data stays in the user's own cache
    home = {} if cell.config.task.data is None else {"HF_HOME": str(folders.hf)}
    with (
        _printing_to(folder / "run.log"),
        variables({"LMUData": str(folders.lmu), "PRED_FORMAT": "tsv", **home}),
        _inside(folders.work),
    ):
        yield folders
    if not stays:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the length of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _printing_to(file: Path) -> Iterator[None]:
    """File descriptors 1 and 2, so that libraries and their children are caught as well."""
    before = [(stream, os.dup(stream)) for stream in (1, 2)]
    # O_NOFOLLOW: through a link in its place the log would be written anywhere
    log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
    try:
        for stream, _ in before:
            os.dup2(log, stream)
        yield
    finally:
        os.close(log)
        for stream, saved in before:
            os.dup2(saved, stream)
            os.close(saved)
