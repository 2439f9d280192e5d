"""``analyze``: the papers' studies, each a table and a plot below ``<out>/analysis``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from unibench import frame as frames
from unibench import registry
from unibench.analysis import angles, horizon, sweep, tradeoff
from unibench.analysis.pictures import contexts, pictures
from unibench.checks import facts_of
from unibench.cli.grid import Grid
from unibench.cli.parser import COMMAND, Options
from unibench.compose import is_experiment
from unibench.errors import UsageError
from unibench.identity import Cell
from unibench.models import load
from unibench.plots import canvas, scores, studies
from unibench.pruning import Needs, StageContext
from unibench.runner.embedded import load_task

PICTURES = 200


def analyze(options: Options) -> int:
    """``analyze tradeoff|angles [importance=random] <overrides>``, ``analyze sweep [PARAMETER]
    <overrides>``, ``analyze size``, ``analyze horizon [method=fastv,dart] <overrides>``.
    """
    names = [word for word in options.words if "=" not in word]
    options.words = [word for word in options.words if word not in names]
    if len(names) > (1 if options.study == "sweep" else 0):
        raise UsageError(f"analyze {options.study} takes no {names[-1]!r}; write key=value")
    if options.study == "tradeoff":
        return _tradeoff(_one(options), options.importance)
    if options.study == "angles":
        return _angles(_one(options))
    if options.study == "horizon":
        return _horizon(options)
    grid = Grid(options, sweep=not is_experiment(options.words))
    if options.study == "size":
        return _size(grid)
    return _sweep(grid, names[0] if names else None)


def _tradeoff(cell: Cell, importance: str) -> int:
    points = tradeoff.summary(
        tradeoff.measure(_contexts(cell, tradeoff.needs(importance)), importance)
    )
    figure = studies.tradeoff(points, cell.config.model.name)
    _write(cell, f"tradeoff_{importance}", points, figure)
    beaten, compared = tradeoff.dominated(points, by="idpruner", whom="naive_hybrid")
    print(
        f"of naive_hybrid's {compared} inner points, {beaten} are clumpier than idpruner's curve at"
        " the same importance"
    )
    return 0


def _angles(cell: Cell) -> int:
    table = angles.histogram(_contexts(cell, Needs()))
    _write(cell, "angles", table, studies.angles(table, cell.config.model.name))
    below = table.loc[table["high"] <= 90, "share"].sum()
    print(f"{100 * below:.1f} % of the pairs are below 90 degrees")
    return 0


def _sweep(grid: Grid, parameter: str | None) -> int:
    """Follows a parameter: each task by ability, and several tasks beside each other."""
    code = grid.run()
    for model, lines in _finished(grid).groupby("model", sort=False):
        name, table = sweep.sweep(lines, parameter)
        tables = {
            f"sweep_{name}_{model}_{task}": rows for task, rows in table.groupby("task", sort=False)
        }
        if len(tables) > 1 and name != sweep.MODE:
            tables[f"sweep_{name}_{model}"] = sweep.by_task(table)
        for title, rows in tables.items():
            _write(grid.cells[0], title, rows, studies.sweep(rows, name, str(model)))
    return code


def _size(grid: Grid) -> int:
    """Mean score over tasks by model, in the order in which the models are given."""
    code = grid.run()
    frame = _finished(grid)
    models, joined = list(dict.fromkeys(frame["model"])), frames.over_seeds(frame)
    for budget in frame.loc[frame["method"] != "vanilla", "budget"].unique():
        table = scores.size_table(joined, models, budget).reset_index()
        _write(grid.cells[0], f"size_{budget}", table, scores.sizes(joined, models, budget))
    return code


def _horizon(options: Options) -> int:
    """Random choice at every layer against vanilla, and against methods that cut there."""
    given = [word for word in options.words if word.startswith("method=")]
    names = [name for word in given for name in word.partition("=")[2].split(",")]
    for name in names:
        if "layer" not in registry.method(name).parameters:
            raise UsageError(f"method={name} has no parameter layer, so it cuts at one place alone")
    if not any(word.startswith("method.layer=") for word in options.words):
        models = {
            cell.config.model.name: cell.config.model for cell in Grid(options, sweep=True).cells
        }
        depths = {facts_of(model).depth for model in models.values()}
        depth = depths.pop()
        if depths or depth is None:
            raise UsageError(
                f"{' and '.join(models)}: how many layers there are is not one known number; give"
                " method.layer=1,2,3"
            )
        options.words.append(f"method.layer={','.join(map(str, range(1, depth)))}")
    options.words = [word for word in options.words if word not in given]
    options.words.append(f"method={','.join(dict.fromkeys([horizon.RANDOM, *names]))}")
    grid = Grid(options, sweep=True)
    code = grid.run()
    settings = {cell.setting for cell in grid.cells}
    lines = frames.whole(frames.load(Path(grid.cells[0].config.out)))
    whole = lines["setting"].isin(settings) & (lines["method"] == "vanilla")
    ours = lines["key"].isin({cell.key for cell in grid.cells})
    table = horizon.horizon(frames.over_seeds(lines[whole | ours], intervals=False))
    _write(grid.cells[0], "horizon", table, studies.horizon(table))
    for _, found in horizon.first_layers(table).iterrows():
        where = f"{found['model']} on {found['task']} at {found['budget']}"
        if pd.isna(found["horizon"]):
            print(f"{where}: no horizon up to layer {found['to']}: random choice differs there")
        else:
            print(f"{where}: from layer {int(found['horizon'])} on random choice equals everything")
    return code


def _finished(grid: Grid) -> pd.DataFrame:
    """The lines of the cells that are done, in the order of the cells."""
    place = {cell.key: number for number, cell in enumerate(grid.cells)}
    frame = frames.load(Path(grid.cells[0].config.out))
    frame = frame[frame["key"].isin(place)]
    return frame.iloc[frame["key"].map(place).argsort(kind="stable")]


def _one(options: Options) -> Cell:
    cells = Grid(options).cells
    if len(cells) != 1:
        raise UsageError(
            f"this study is of one model and task, not of {len(cells)} cells; for example"
            f" {COMMAND} analyze tradeoff ratio=0.889 task.limit=200"
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


def _write(cell: Cell, name: str, table: pd.DataFrame, figure: Figure) -> None:
    folder = Path(cell.config.out, "analysis")
    folder.mkdir(parents=True, exist_ok=True)
    for file in (folder / f"{name}.csv", folder / f"{name}.svg"):
        print(file)
    table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    canvas.save(figure, folder / f"{name}.svg")
