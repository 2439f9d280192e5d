"""``profile``: cost on fixed inputs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, fields
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from unibench.cli.parser import Options
from unibench.cli.terminal import console, new_table, print_table
from unibench.compose import compose_cells
from unibench.config import RunConfig
from unibench.errors import UsageError, UsageErrors
from unibench.profile import Request

if TYPE_CHECKING:
    from unibench.profile.measure import Table as Measured

NOT_HERE = ("task", "batch_size", "generation", "diagnostics", "scores")  # keys of accuracy runs
CONTROLS = ("control", "controls")


def profile(options: Options) -> int:
    """``profile model=M method=X,Y ratio=R,S [image=1920x1080] [text_tokens=64] [new_tokens=32]
    [batch=1,8] ...``.
    """
    request, cells = requested(options)
    from unibench.profile import measure, table  # load torch

    out = Path(cells[0].out, "profile")
    command = " ".join(["python -m unibench profile", *options.given])
    tables = measure.profile(request, cells, lambda line: print(line, file=sys.stderr))
    for measured in tables:
        text = table.markdown(request, measured, command)
        if sys.stdout.isatty():
            show(request, measured, command)
        else:
            print(text)
        out.mkdir(parents=True, exist_ok=True)
        first = measured.rows[0]
        image, batch = first["image"], first["batch"]
        name = _free(out, f"{first['model']}_{request.protocol}_{image}_batch{batch}")
        (out / f"{name}.md").write_text(text, encoding="utf-8")
        (out / f"{name}.json").write_text(json.dumps(asdict(measured), indent=1), encoding="utf-8")
        print(f"{out / name}.md and .json\n")
    return 0


def _free(folder: Path, stem: str) -> str:
    """The first name that no profile has: one of other methods on the same inputs stays there."""
    names = (f"{stem}_{number}" for number in count())
    return next(name for name in names if not (folder / f"{name}.json").exists())


def show(request: Request, measured: Measured, command: str) -> None:
    """Print a table of the width of the terminal, with its remarks."""
    from unibench.profile import table  # loads torch

    heads, *rows = table.cells(request, measured)
    shown = new_table(measured.title, heads)
    for row in rows:
        shown.add_row(*row)
    print_table(shown)
    for remark in table.remarks(request, measured, command):
        console().print(remark)


def requested(options: Options) -> tuple[Request, list[RunConfig]]:
    """The inputs and the cells; comma lists are grids.

    Raises:
        UsageErrors: every mistake, before anything is loaded.
    """
    errors: list[UsageError] = list(options.mistakes)
    overrides: list[str] = []
    for word in options.words:
        key = word.partition("=")[0]
        if key.partition(".")[0] in NOT_HERE:
            inputs = "image, text_tokens, new_tokens, batch"
            errors.append(UsageError(f"{key}: profile asks no task; its inputs are {inputs}"))
        elif key in CONTROLS:
            errors.append(
                UsageError(
                    f"{word}: profile has inputs of its own; for a smaller picture give image="
                )
            )
        else:
            overrides.append(word)
    cells: list[RunConfig] = []
    try:
        cells = compose_cells(overrides, sweep=True)
    except UsageError as error:
        errors.append(error)
    if errors:
        raise UsageErrors(errors)
    given = {field.name: getattr(options, field.name) for field in fields(Request)}
    return Request(**{name: value for name, value in given.items() if value is not None}), cells
