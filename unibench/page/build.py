"""Putting the page together."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import resources
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from unibench import frame as frames
from unibench import report as reports
from unibench.against import against
from unibench.errors import UsageError
from unibench.errors import shown as printable
from unibench.inference.row import RowError, columns, read_row
from unibench.page.gallery import differences
from unibench.plots import costs, ranks, scores
from unibench.store.data import MIB, UnreadableError, read_text
from unibench.store.files import replace

PER_CELL = 4
# a page of thousands of cells is still opened by a browser; it says what it leaves out
PLOTS, DIFFERENCES, DETAILS, LINES = 16, 100, 300, 5000
SCORES = columns(
    *("model", "task", "method", "variant", "budget", "budget_mode", "seed", "n"),
    *("score_100", "low", "high", "drop_pct"),
)
COSTS = columns("kept_mean", "tokens_in", "tflops", "prefill_ms", "method_ms", "total_s")


T = TypeVar("T")


@dataclass(frozen=True)
class Plot:
    """One picture of the page."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class Cell:
    """Where the numbers of one line come from.

    Attributes:
        key: of the cell.
        numbers: by column, as shown.
        folder: of its samples.
        config, environment: text of ``config.yaml`` and ``env.json``.
        videos: how videos were read, and what stayed of them; empty for pictures.
        detailed: whether the page shows them.
    """

    key: str
    numbers: dict[str, str]
    folder: str
    config: str
    environment: str
    videos: str
    detailed: bool


def build(
    frame: pd.DataFrame,
    to: Path,
    per_cell: int = PER_CELL,
    left_out: Mapping[Path, str] = MappingProxyType({}),
) -> Path:
    """Write ``index.html`` below a folder; it needs nothing beside itself and no network.

    Args:
        frame: finished cells, not joined over seeds.
        to: the folder.
        per_cell: samples of each pruned cell in the gallery.
        left_out: why further cells of the store are not shown, by their folder.

    Raises:
        UsageError: no finished cell, or the folder cannot be written.
    """
    if frame.empty:
        raise UsageError("there is nothing for a page: no finished cell among these results")
    joined = frames.over_seeds(frame)
    plots, more_plots = _first(_plots(joined), PLOTS)
    shown, more_differences = _first(differences(frame, per_cell), DIFFERENCES)
    lines = frames.whole(frame)
    cells = [
        _cell(line, detailed=number < DETAILS)
        for number, line in enumerate(lines.head(LINES).to_dict("records"))
    ]
    style, script = (_part(name) for name in ("page.css", "page.js"))
    text = _template().render(
        style=Markup(style),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        tables=list(_tables(joined)),
        plots=plots,
        more_plots=more_plots,
        differences=shown,
        more_differences=more_differences,
        cells=cells,
        detailed=[cell for cell in cells if cell.detailed],
        total=len(lines),
        left_out=[f"{printable(cell)}: {printable(why)}" for cell, why in left_out.items()],
        columns=(*SCORES, *COSTS),
        toy=any(str(model).startswith("tiny_") for model in frame["model"]),
    )
    try:
        to.mkdir(parents=True, exist_ok=True)
        place = to / "index.html"
        replace(place, text)
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror}") from None
    return place


def _first(found: Iterator[T], most: int) -> tuple[list[T], bool]:
    """The first of what there is, and whether there is more; it is made one by one."""
    first = list(islice(found, most))
    return first, next(found, None) is not None


def _tables(frame: pd.DataFrame) -> Iterator[Markup]:
    found = against(frames.whole(frame))
    views = ["tasks", *(["abilities"] if (frame["ability"] != frames.ALL).any() else [])]
    tables = [table for view in views for table in reports.grid(frame, view, found)]
    tables += reports.controls(frame, found)
    with suppress(UsageError):  # without a smaller picture or a question asked blind
        tables += reports.groups(frame)
    if len(frames.whole(frame)) <= DETAILS:  # the samples of each cell are read
        tables += reports.diagnostics(frame)[:1]
    for table in tables:
        yield Markup(reports.WRITERS["html"](table))


def _plots(frame: pd.DataFrame) -> Iterator[Plot]:
    """Every plot that the results are enough for, of each budget mode by itself."""
    pruned = frame[frame["method"] != "vanilla"]
    for mode in pruned["budget_mode"].dropna().unique():
        lines = frame[(frame["budget_mode"] == mode) | (frame["method"] == "vanilla")]
        for name, part in frames.conditions(lines):
            yield from _of_tasks(part, name, mode)
            if part["task"].nunique() > 1:
                yield from _drawn(
                    f"{name}: what is retained, {mode}", partial(scores.heat_map, part)
                )
        for budget in pruned.loc[pruned["budget_mode"] == mode, "budget"].unique():
            for name, part in frames.conditions(lines):
                for spokes in ("task", "ability"):
                    yield from _drawn(
                        f"{name}: by {spokes} at {budget}, {mode}",
                        partial(scores.radar, part, str(budget), spokes=spokes),
                    )
            yield from _drawn(
                f"ranks at {budget}, {mode}", partial(ranks.critical_difference, lines, str(budget))
            )


def _of_tasks(lines: pd.DataFrame, name: str, mode: str) -> Iterator[Plot]:
    """The plots of each task of a model, in each of its settings."""
    for task, here in lines.groupby("task", sort=False):
        labels = frames.labels(here, "setting")
        for setting, part in here.groupby("setting", sort=False):
            place = ", ".join(filter(None, (f"{name} on {task}", labels[str(setting)])))
            for what, draw in (
                ("score by ratio", scores.by_ratio),
                ("score and prefill time", costs.pareto),
                ("score and tokens", partial(costs.pareto, cost="equiv_tokens")),
                ("time and memory", costs.bars),
            ):
                yield from _drawn(f"{place}: {what}, {mode}", partial(draw, part, str(task)))


def _drawn(title: str, draw: Callable[[], Figure]) -> Iterator[Plot]:
    """The plot, unless the results are too few for it."""
    try:
        figure = draw()
    except UsageError:
        return
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    text = stream.getvalue()
    yield Plot(title, Markup(text[text.index("<svg") :]))


def _cell(line: Mapping[Any, Any], *, detailed: bool) -> Cell:
    folder = Path(line["folder"])
    config = _text(folder / "config.yaml") if detailed else ""
    environment = _text(folder / "env.json") if detailed else ""
    numbers = {name: _shown(line[name]) for name in (*SCORES, *COSTS)}
    videos = _videos(folder) if detailed else ""
    return Cell(line["key"], numbers, str(folder), config, environment, videos, detailed=detailed)


def _videos(folder: Path) -> str:
    """How a cell's videos were read and what stayed of them, in one line."""
    try:
        told = read_row(folder).frames
    except RowError:  # a damaged row is named elsewhere
        return ""
    known = {key: value for key, value in (told or {}).items() if value is not None}
    # of a stranger's file anything may be there
    return ", ".join(f"{key} {value}" for key, value in known.items())[:2000]


def _text(file: Path) -> str:
    """The text of a stored file; why there is none where it cannot be shown."""
    try:
        return read_text(file, MIB)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except UnreadableError as error:  # one cell's file does not cost the page
        return f"({error})"


def _shown(value: Any) -> str:
    """A number for people; nothing where there is none.

    >>> _shown(3.14159), _shown(float("nan")), _shown("x")
    ('3.142', '', 'x')
    """
    if pd.isna(value):
        return ""
    return (
        (f"{value:.4g}" if abs(value) < 10 else f"{value:.1f}")
        if isinstance(value, float)
        else str(value)
    )


def _part(name: str) -> str:
    """A file beside the template."""
    return resources.files("unibench.page").joinpath("templates", name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unibench.page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.j2")
