"""``report``: tables of the papers, and of one's own results."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from unibench import report as reports
from unibench.cli.parser import Options
from unibench.cli.terminal import console, print_table
from unibench.report import Table
from unibench.store.files import replace

if TYPE_CHECKING:
    import pandas as pd

STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem}table{border-collapse:collapse}"
    "caption{text-align:left;font-weight:600}th,td{padding:.2rem .6rem;text-align:left;"
    "border-bottom:1px solid #d0d7de}@media(prefers-color-scheme:dark)"
    "{body{background:#0d1117;color:#e6edf3}a{color:#79b8ff}}"
)
# the tables of the papers are printed without pandas: what reads results is imported where it does


def report(options: Options) -> int:
    """``report [paper=P table=K mode=published|ours|difference|both] [format=md|tex|html|csv]
    [sort=COLUMN] [show=interval,drop] [names=FILE] [out=outputs] [to=FOLDER]``.

    A terminal that is asked for no format gets a table of its own width.

    With ``--html`` a page of all results instead.
    """
    if options.html:
        return page(options)
    if options.paper or options.table or options.mode:
        tables = _of_papers(options)
    else:
        tables = _of_results(options)
    if options.format is None and not options.to and sys.stdout.isatty():
        for table in tables:
            _show(table)
        return 0
    options.format = options.format or "md"
    texts = {table.name: reports.WRITERS[options.format](table) for table in tables}
    if options.to:
        _write(Path(options.to).expanduser(), options.format, texts)
    else:
        print("\n".join(texts.values()), end="")
    return 0


def page(options: Options) -> int:
    """``page [key=value ...] [out=outputs] [to=report]``: the explorer of one's own results."""
    from unibench import frame as frames
    from unibench.cli.results import finished, folder_of
    from unibench.page import build  # loads torch

    store = folder_of(options)
    with frames.scores_kept(store):
        cells, missing = finished(options), frames.left_out(store)
        print(build(cells, Path(options.to or "report").expanduser(), missing, store))
    return 0


def _of_results(options: Options) -> list[Table]:
    """Tables of one's own results, set as papers do, each method beside the best control."""
    from unibench import frame as frames
    from unibench.cli.results import finished, folder_of
    from unibench.comparison.against import against

    show, names, view = options.show or (), reports.Names.of(options.names), options.view or "tasks"
    with frames.scores_kept(folder_of(options)):
        cells = frames.over_seeds(finished(options), intervals="interval" in show)
        found = against(_with_controls(options, cells)) if view == "tasks" else {}
        tables = reports.grid(cells, view, found)
        if view not in reports.OWN_TABLES:
            tables = [
                reports.arranged(one, sort=options.sort, names=names, show=show) for one in tables
            ]
    return [*tables, *reports.controls(cells, found)]


def _show(table: Table) -> None:
    """A table for a terminal, with its notes."""
    screen = console()
    print_table(reports.terminal(table), keys=len(table.heads))
    for letter, note in table.notes.items():
        screen.print(f"{letter}: {note}")
    for remark in table.remarks:
        screen.print(remark)


def _with_controls(options: Options, cells: pd.DataFrame) -> pd.DataFrame:
    """The lines that filters let pass, and the controls beside them, which a method= keeps out."""
    import pandas as pd

    from unibench import frame as frames
    from unibench.cli.results import folder_of
    from unibench.comparison.against import CONTROLS

    if "method" not in options.filters:
        return frames.whole(cells)
    lines = frames.whole(frames.load(folder_of(options)))
    beside = lines["setting"].isin(cells["setting"]) & lines["method"].isin(CONTROLS)
    controls = frames.over_seeds(lines[beside], intervals=False)
    return pd.concat([frames.whole(cells), controls], ignore_index=True).drop_duplicates("series")


def _of_papers(options: Options) -> list[Table]:
    names = reports.select(options.paper, options.table)
    if options.mode in (None, "published"):
        return [reports.published(name) for name in names]
    from unibench import frame as frames
    from unibench.cli.results import folder_of
    from unibench.report import StandIn

    # model and task stand in for those of the table, and choose no cells
    standin = StandIn(options.filters.pop("model", None), options.filters.pop("task", None))
    with frames.scores_kept(folder_of(options)):
        cells = _cells(options)
        return [
            reports.filled(name, cells, standin, reports.beyond, options.mode).table()
            for name in names
        ]


def _cells(options: Options) -> pd.DataFrame:
    """Finished cells, seeds joined; none where there is no folder yet, or nothing in it."""
    from unibench import frame as frames
    from unibench.cli.results import finished, folder_of

    empty = frames.over_seeds(frames.build([]))
    if not folder_of(options).is_dir() or frames.load(folder_of(options)).empty:
        return empty
    return frames.over_seeds(finished(options), intervals=False)


def _write(folder: Path, form: str, texts: Mapping[str, str]) -> None:
    """Write a file for each table; of HTML whole pages, and one that leads to all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        replace(folder / f"{name}.{form}", _page(name, text) if form == "html" else text)
    if form == "html":
        links = "".join(
            f'<li><a href="{escape(name)}.html">{escape(name)}</a></li>\n' for name in texts
        )
        replace(folder / "index.html", _page("tables", f"<ul>\n{links}</ul>\n"))
    print(f"{len(texts)} tables in {folder}")


def _page(title: str, body: str) -> str:
    """A page that a browser shows as it is; titles are names of files."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
