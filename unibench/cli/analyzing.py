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
from unibench.plots import canvas, scores, studies
from unibench.pruning import Needs, StageContext
from unibench.runner.embedded import load_task

PICTURES = 200
HELP = "python -m unibench analyze tradeoff ratio=0.889 task.limit=200"


def analyze(words: Sequence[str]) -> int:
    """``analyze tradeoff|angles [importance=random] <overrides>``, ``analyze sweep [PARAMETER]
    <overrides>``, ``analyze size``.
    """
    study, *rest = words or [""]
    found = {"tradeoff": _tradeoff, "angles": _angles, "sweep": _sweep, "size": _size}
    if study not in found:
        raise unknown("study", study, found, HELP)
    return found[study](rest)


def _tradeoff(words: Sequence[str]) -> int:
    given = [word.partition("=")[2] for word in words if word.startswith("importance=")]
    importance = given[0] if given else "random"
    cell = _one([word for word in words if not word.startswith("importance=")])
    points = tradeoff.summary(
        tradeoff.measure(_contexts(cell, tradeoff.needs(importance)), importance)
    )
    _written(
        cell, f"tradeoff_{importance}", points, studies.tradeoff(points, cell.config.model.name)
    )
    beaten, compared = tradeoff.dominated(points, by="idpruner", whom="naive_hybrid")
    print(
        f"of naive_hybrid's {compared} inner points, {beaten} are clumpier than idpruner's curve at"
        " the same importance"
    )
    return 0


def _angles(words: Sequence[str]) -> int:
    cell = _one(words)
    table = angles.histogram(_contexts(cell, Needs()))
    _written(cell, "angles", table, studies.angles(table, cell.config.model.name))
    below = table.loc[table["high"] <= 90, "share"].sum()
    print(f"{100 * below:.1f} % of the pairs are below 90 degrees")
    return 0


def _sweep(words: Sequence[str]) -> int:
    """Follows a parameter: each task by ability, and several tasks beside each other."""
    names = [word for word in words if "=" not in word and not word.startswith("-")]
    code, cell, frame = _finished([word for word in words if word not in names])
    for model, lines in frame.groupby("model", sort=False):
        name, table = sweep.sweep(lines, names[0] if names else None)
        parts = {
            f"sweep_{name}_{model}_{task}": part for task, part in table.groupby("task", sort=False)
        }
        if len(parts) > 1 and name != sweep.MODE:
            parts[f"sweep_{name}_{model}"] = sweep.by_task(table)
        for place, part in parts.items():
            _written(cell, place, part, studies.sweep(part, name, str(model)))
    return code


def _size(words: Sequence[str]) -> int:
    """Mean score over tasks by model, in the order in which the models are given."""
    code, cell, frame = _finished(words)
    models, joined = list(dict.fromkeys(frame["model"])), frames.over_seeds(frame)
    for budget in frame.loc[frame["method"] != "vanilla", "budget"].unique():
        _written(
            cell,
            f"size_{budget}",
            scores.size_table(joined, models, budget).reset_index(),
            scores.sizes(joined, models, budget),
        )
    return code


def _finished(words: Sequence[str]) -> tuple[int, Cell, pd.DataFrame]:
    """Runs what is missing of some cells: the exit code, the first cell, and the lines of those
    that are done, in their order.
    """
    grid = words if is_experiment(words) else ["-m", *words]
    cells, code = running.cells_of(grid), running.run([*grid])
    place = {cell.key: number for number, cell in enumerate(cells)}
    frame = frames.load(Path(cells[0].config.out))
    frame = frame[frame["key"].isin(place)]
    return code, cells[0], frame.iloc[frame["key"].map(place).argsort(kind="stable")]


def _one(words: Sequence[str]) -> Cell:
    cells = running.cells_of(words)
    if len(cells) != 1:
        raise UsageError(
            f"this study is of one model and task, not of {len(cells)} cells; for example {HELP}"
        )
    return cells[0]


def _contexts(cell: Cell, needs: Needs) -> Iterator[StageContext]:
    """What a method sees of the task's pictures; ``task.limit`` is their number."""
    if cell.config.task.kind != "embedded":
        raise UsageError(
            f"task={cell.config.task.name}: its harness keeps the pictures; take task=synthvqa, or"
            " task=folder task.data=<folder>"
        )
    task, limit = load_task(cell), cell.config.task.limit or PICTURES
    loaded = load(cell.config.model, cell.config.pixels)
    return contexts(cell, loaded, pictures(task, limit), needs)


def _written(cell: Cell, name: str, table: pd.DataFrame, figure: Figure) -> None:
    folder = Path(cell.config.out, "analysis")
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder / f"{name}.csv", folder / f"{name}.svg"):
        print(place)
    table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    canvas.save(figure, folder / f"{name}.svg")
