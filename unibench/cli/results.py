"""The finished cells that a verb reads: of one folder, and as its filters choose."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from unibench import frame as frames
from unibench.cli.parser import COMMAND, Options
from unibench.errors import UsageError


def finished(options: Options) -> pd.DataFrame:
    """The lines of the finished cells below ``out=``, and below ``shared=`` if that is given, that
    fit the filters.

    A filter names one value or several (``method=divprune,fastv``).

    Raises:
        UsageError: no such folder, a value that no cell has, or nothing fits.
    """
    folder = folder_of(options)
    shared = getattr(options, "shared", None)
    # who has answered nothing yet may look at what others have
    cells = frames.load(folder) if folder.is_dir() or not shared else frames.of_rows([])
    if shared:
        cells = frames.over(cells, frames.load(Path(shared).expanduser()))
    named = {"budget" if key == "ratio" else key: value for key, value in options.filters.items()}
    cells = frames.selected(cells, named, folder)
    if cells.empty:
        raise UsageError(
            f"{folder} has no finished cell that fits; {COMMAND} model=.. method=.. out={folder}"
            " makes one"
        )
    return cells


def folder_of(options: Options) -> Path:
    """The folder that ``out=`` names."""
    return Path(options.out).expanduser()


def only(cells: pd.DataFrame, key: str) -> str:
    """The value that all lines have; of budgets, all but vanilla's.

    Raises:
        UsageError: there are several.
    """
    lines = cells[cells["method"] != "vanilla"] if key == "budget" else cells
    values = [str(value) for value in lines[key].unique()]
    if len(values) > 1:
        raise UsageError(
            f"these results have several values of {key}: {', '.join(values)}; choose one with"
            f" {key}={values[0]}"
        )
    return values[0] if values else ""
