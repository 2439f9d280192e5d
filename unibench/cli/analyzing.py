"""``analyze``: the papers' studies, each a table and a plot below ``<out>/analysis``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from unibench import frame as frames
from unibench.analysis import angles, sweep, tradeoff
from unibench.analysis.pictures import contexts, pictures
from unibench.cli import running
from unibench.compose import is_experiment
from unibench.errors import UsageError, unknown
from unibench.identity import Cell
from unibench.models import load
from unibench.plots import canvas, studies
from unibench.pruning import Needs, StageContext
from unibench.runner.embedded import load_task

PICTURES = 200
HELP = "python -m unibench analyze tradeoff ratio=0.889 task.limit=200"


def analyze(words: Sequence[str]) -> int:
    """``analyze tradeoff|angles [importance=random] <overrides>`` or ``analyze sweep [method.parameter] <overrides>``."""
    study, *rest = words or [""]
    found = {"tradeoff": _tradeoff, "angles": _angles, "sweep": _sweep}
    if study not in found:
        raise unknown("study", study, found, HELP)
    return found[study](rest)


def _tradeoff(words: Sequence[str]) -> int:
    given = [word.partition("=")[2] for word in words if word.startswith("importance=")]
    importance = given[0] if given else "random"
    cell = _one([word for word in words if not word.startswith("importance=")])
    points = tradeoff.summary(tradeoff.measure(_contexts(cell, tradeoff.needs(importance)), importance))
    _written(cell, f"tradeoff_{importance}", points, studies.tradeoff(points, cell.config.model.name))
    beaten, compared = tradeoff.dominated(points, by="idpruner", whom="naive_hybrid")
    print(f"of naive_hybrid's {compared} inner points, {beaten} are clumpier than idpruner's curve at the same importance")
    return 0


def _angles(words: Sequence[str]) -> int:
    cell = _one(words)
    table = angles.histogram(_contexts(cell, Needs()))
    _written(cell, "angles", table, studies.angles(table, cell.config.model.name))
    below = table.loc[table["high"] <= 90, "share"].sum()
    print(f"{100 * below:.1f} % of the pairs are below 90 degrees")
    return 0


def _sweep(words: Sequence[str]) -> int:
    """Runs what is missing of the cells, then follows the parameter."""
    names = [word for word in words if "=" not in word and not word.startswith("-")]
    overrides = [word for word in words if word not in names]
    cells = running.cells_of(overrides if is_experiment(overrides) else ["-m", *overrides])
    if code := running.run(overrides if is_experiment(overrides) else ["-m", *overrides]):
        return code
    keys = {cell.key for cell in cells}
    frame = frames.load(Path(cells[0].config.out))
    for (model, task), lines in frame[frame["key"].isin(keys)].groupby(["model", "task"], sort=False):
        name, table = sweep.sweep(lines, names[0] if names else None)
        _written(cells[0], f"sweep_{name}_{model}_{task}", table, studies.sweep(table, name, str(model)))
    return 0


def _one(words: Sequence[str]) -> Cell:
    cells = running.cells_of(words)
    if len(cells) != 1:
        raise UsageError(f"this study is of one model and task, not of {len(cells)} cells; for example {HELP}")
    return cells[0]


def _contexts(cell: Cell, needs: Needs) -> Iterator[StageContext]:
    """What a method sees of the task's pictures; ``task.limit`` is their number."""
    if cell.config.task.kind != "embedded":
        raise UsageError(
            f"task={cell.config.task.name}: its harness keeps the pictures; take task=synthvqa, or task=folder task.data=<folder>"
        )
    task, limit = load_task(cell), cell.config.task.limit or PICTURES
    return contexts(load(cell.config.model, cell.config.pixels), pictures(task, limit), cell.budget, needs, cell.config.seed)


def _written(cell: Cell, name: str, table: pd.DataFrame, figure: Figure) -> None:
    folder = Path(cell.config.out, "analysis")
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder / f"{name}.csv", folder / f"{name}.svg"):
        print(place)
    table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    canvas.save(figure, folder / f"{name}.svg")
