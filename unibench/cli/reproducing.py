"""``reproduce``: a paper's table run under its own settings and under ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from unibench import frame as frames
from unibench import report as reports
from unibench import reproduction
from unibench.cli.parser import COMMAND, Options
from unibench.cli.progress import Progress
from unibench.cli.terminal import console, new_table, print_table
from unibench.compose import CONFIGS, compose_experiment, given_by
from unibench.errors import UsageError, UsageErrors, lines_shown
from unibench.experiment import Experiment
from unibench.experiment import read as read_experiment
from unibench.identity import Cell, cells_of, settled, vanilla_of
from unibench.inference.row import Row
from unibench.report import Comparison, StandIn
from unibench.report.layout import experiment_of
from unibench.report.settings import settings_of
from unibench.reproduction import Base, Number

PAPER, OURS = "paper", "unibench"


@dataclass
class _Side:
    """A table's cells under one kind of settings.

    Attributes:
        name: of the settings.
        cells: of the table.
        rows: of those that are finished, by key.
    """

    name: str
    cells: Sequence[Cell]
    rows: dict[str, Row] = field(default_factory=dict)

    def comparison(self, table: str, standin: StandIn) -> Comparison:
        """The table filled from these cells alone."""
        cells = frames.over_seeds(frames.of_rows(self.rows.values()), intervals=False)
        return reports.filled(table, cells, standin, reports.beyond)


def reproduce(options: Options) -> int:
    """``reproduce paper=P table=K [settings=paper|unibench|both] [--factors] [key=value ...]``:
    exit code 1 if a cell failed.

    The unpruned model comes first: where it misses the printed base, that is said before any pruned
    cell is run.
    """
    table, experiment = _table(options)
    words = [word for word in options.words if not word.startswith("hydra")]
    given = given_by(words)[0]
    standin = _standin(experiment, given)
    sides = _sides(options, experiment, words)
    run = _Run()
    limited = any(key.startswith("task.limit") for key in given)
    run.complete(sides, lambda cell: cell.method == "vanilla")
    bases = reproduction.bases(sides[0].comparison(table, standin), limited=limited)
    differing = reproduction.differences(experiment.under(given))
    unkept = [one for one in settings_of(table) if not one.here.startswith("same")]
    if not options.json:
        _print_settings(table, experiment, differing, unkept)
        _print_bases(bases, sides[0].name)
    run.complete(sides, lambda cell: True)
    comparisons = {side.name: side.comparison(table, standin) for side in sides}
    numbers = reproduction.numbers(comparisons)
    keys = [side.name for side in sides if side.name not in (PAPER, OURS)]
    if options.json:
        print(json.dumps(_record(table, differing, bases, numbers), indent=1))
    else:
        _print_numbers(numbers, [side.name for side in sides if side.name not in keys])
        if keys:
            _print_factors(numbers, keys)
    run.say_failures()
    return run.code


class _Run:
    """Runs cells of several settings with one loop, which a shared cell passes once."""

    def __init__(self) -> None:
        self.code = 0
        self._failed: dict[str, str] = {}

    def complete(self, sides: Sequence[_Side], wanted: Callable[[Cell], bool]) -> None:
        """Answer what is missing of the cells that are wanted."""
        from unibench.runner import Stop, work  # loads torch

        cells = {cell.key: cell for side in sides for cell in side.cells if wanted(cell)}
        todo = [cell for key, cell in cells.items() if key not in self._failed]
        stop = Stop()
        with stop.listening():
            outcome = work(todo, listener=Progress(), stop=stop)
        for failure in outcome.failures:
            self._failed[failure.cell.key] = f"{failure.cell.title}: {failure.error}"
            self.code = max(self.code, 0 if failure.usage else 1)
        for side in sides:
            keys = [cell.key for cell in side.cells if cell.key in outcome.rows]
            side.rows |= {key: outcome.rows[key] for key in keys}

    def say_failures(self) -> None:
        for line in self._failed.values():
            console().print(lines_shown(f"not run: {line}"), soft_wrap=True)


def _table(options: Options) -> tuple[str, Experiment]:
    """The name of the table and its experiment.

    Raises:
        UsageErrors: which paper or table is missing or unknown.
    """
    if options.mistakes:
        raise UsageErrors(options.mistakes)
    if not options.paper or not options.table:
        raise UsageError(
            f"reproduce which table? For example {COMMAND} reproduce paper=idpruner table=1"
        )
    names = reports.select(options.paper, options.table)
    if len(names) != 1:
        raise UsageError(
            f"reproduce runs one table, not {len(names)}: {', '.join(names)}; give paper= and"
            " table= of one"
        )
    file = CONFIGS / "experiment" / f"{experiment_of(names[0])}.yaml"
    return names[0], read_experiment(file)


def _standin(experiment: Experiment, given: Mapping[str, str]) -> StandIn:
    """The model and task of the command, where they take the place of the paper's."""
    others = {
        key: given[key].partition("=")[2]
        for key in ("model", "task")
        if key in given and not experiment.lists(key, given[key])
    }
    return StandIn(others.get("model"), others.get("task"))


def _sides(options: Options, experiment: Experiment, words: Sequence[str]) -> list[_Side]:
    """The cells of the table under each kind of settings that is asked for."""
    kinds = {PAPER: experiment, OURS: reproduction.of_unibench(experiment)}
    if options.settings != "both":
        kinds = {options.settings: kinds[options.settings]}
    if options.factors:
        kinds.setdefault(OURS, reproduction.of_unibench(experiment))
        for key in reproduction.factors(experiment.under(given_by(words)[0])):
            kinds[key] = reproduction.with_factor(experiment, key)
    sides = []
    for name, kind in kinds.items():
        cells = cells_of(compose_experiment(kind, words))
        # a part of the table has no unpruned line of its own
        bases = [vanilla_of(cell) for cell in cells if cell.method != "vanilla"]
        whole = {cell.key: cell for cell in (*bases, *cells)}
        # under the keys that they have once the checkpoint's commit is known
        sides.append(_Side(name, settled(list(whole.values()))))
    return sides


def _print_settings(
    table: str, experiment: Experiment, differing: Sequence[Any], unkept: Sequence[Any]
) -> None:
    screen = console()
    screen.print(f"{table}: {experiment.title}")
    columns = ("setting", "methods", "paper", "unibench", "certainty and source")
    shown = _of_texts("the paper's own settings", columns)
    for one in differing:
        methods = ", ".join(one.methods) or "all"
        known = [
            f"{each.certainty}: {each.source}"
            for each in settings_of(table)
            if one.key in each.keys
        ]
        shown.add_row(one.key, methods, ", ".join(one.paper), one.unibench, "; ".join(known))
    if differing:
        print_table(shown, keys=2, sentence=True)
    else:
        screen.print("the paper's own settings: none that these cells hold differ from unibench's")
    if unkept:
        columns = ("setting", "certainty", "paper", "here", "source")
        shown = _of_texts("settings that are not the paper's here", columns)
        for one in unkept:
            shown.add_row(one.setting, one.certainty, one.value, one.here, one.source)
        print_table(shown, keys=2, sentence=True)


def _of_texts(title: str, columns: Sequence[str]) -> Table:
    """A table of words, which begin at the left."""
    table = new_table(title, columns)
    for column in table.columns:
        column.justify = "left"
    return table


def _print_bases(bases: Sequence[Base], settings: str) -> None:
    columns = ("model", "benchmark", "printed", "in", "ours", "n", "95 %", "verdict")
    shown = new_table(f"the unpruned model, settings={settings}", columns)
    for one in bases:
        shown.add_row(
            one.model,
            one.benchmark,
            "-" if one.printed.value is None else f"{one.printed.value:g}",
            one.printed.source,
            _text(one.ours, 2),
            "" if one.n is None else str(one.n),
            f"{one.low:.2f} to {one.high:.2f} ({one.interval})" if one.interval else "",
            one.verdict + (f": {one.why}" if one.why else ""),
        )
    print_table(shown, keys=2)
    missed = [one for one in bases if one.verdict == "missed"]
    for one in missed:
        console().print(
            f"{one.model} misses the base on {one.benchmark}: {one.ours:.2f} for"
            f" {one.printed.value:g} ({one.printed.source}). Known causes:"
        )
        for cause in one.causes:
            console().print(f"  {cause.kind}: {cause.says} ({cause.source})", soft_wrap=True)
    if missed:
        console().print("Every drop below is measured from another base than the paper's.")


def _print_numbers(numbers: Sequence[Number], sides: Sequence[str]) -> None:
    heads = ["line", "column", "paper"]
    for name in sides:
        heads += [f"settings={name}", "minus paper"]
    shown = new_table("the table", heads)
    left = 0
    for one in numbers:
        if all(one.ours[name] is None for name in sides):
            left += 1
            continue
        cells = [one.line, one.column, one.printed or "-"]
        for name in sides:
            cells += [_text(one.ours[name], one.places), _signed(one.difference(name), one)]
        shown.add_row(*cells)
    print_table(shown, keys=2)
    if left:
        console().print(f"{left} of {len(numbers)} numbers of the table have no finished cell here")


def _print_factors(numbers: Sequence[Number], keys: Sequence[str]) -> None:
    """One setting of the paper at a time, all others ours."""
    heads = (*keys, "nearest to the paper")
    shown = new_table("one setting of the paper at a time", ("line", "column", OURS, *heads))
    for one in numbers:
        if one.ours[OURS] is None:
            continue
        near = one.explained_by({key: key for key in keys}, OURS)
        cells = [_changed(one, key) for key in keys]
        shown.add_row(one.line, one.column, _text(one.ours[OURS], one.places), *cells, near or "-")
    print_table(shown, keys=2)
    console().print("a column holds the change of ours when this setting alone is the paper's")


def _changed(one: Number, key: str) -> str:
    value, ours = one.ours[key], one.ours[OURS]
    if value is None or ours is None:
        return "-"
    return f"{value - ours:+.{one.places}f}"


def _text(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _signed(value: float | None, number: Number) -> str:
    return "-" if value is None else f"{value:+.{number.places}f}"


def _record(
    table: str, differing: Iterable[Any], bases: Iterable[Base], numbers: Iterable[Number]
) -> Mapping[str, Any]:
    """Everything as plain values."""
    return {
        "table": table,
        "settings": [asdict(one) for one in differing],
        "not_reproduced": [
            asdict(one) for one in settings_of(table) if not one.here.startswith("same")
        ],
        "bases": [_finite(asdict(one)) for one in bases],
        "numbers": [asdict(one) for one in numbers],
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {key: None if value != value else value for key, value in values.items()}
