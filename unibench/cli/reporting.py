"""``report``: tables of the papers, and of one's own results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from unibench import frame as frames
from unibench import report as reports
from unibench.errors import UsageError, unknown
from unibench.page import build
from unibench.report import Comparison, Results, StandIn, Table
from unibench.store.files import replace

MODES = ("published", "ours", "difference")
OWN = ("paper", "table", "mode", "format", "out", "to", "view", "model", "task")
FILTERS = tuple(name for name in frames.FILTERS if name not in ("model", "task"))


def report(words: Sequence[str]) -> int:
    """``report [paper=P table=K mode=published|ours|difference] [format=md|tex|html|csv]
    [out=outputs] [to=FOLDER]``.

    With ``--html`` a page of all results instead.
    """
    given = options([word for word in words if word != "--html"])
    if "--html" in words:
        print(build(finished(given), Path(given.get("to", "report"))))
        return 0
    form = given.get("format", "md")
    if form not in reports.WRITERS:
        raise unknown("format", form, reports.WRITERS)
    tables = (
        _of_papers(given)
        if given.keys() & {"paper", "table", "mode"}
        else reports.grid(_results(given), given.get("view", "tasks"))
    )
    texts = {table.name: reports.WRITERS[form](table) for table in tables}
    if "to" in given:
        _write(Path(given["to"]), form, texts)
    else:
        print("\n".join(texts.values()), end="")
    return 0


def options(words: Sequence[str], more: Sequence[str] = ()) -> dict[str, str]:
    """The ``key=value`` words of a verb that reads results.

    Args:
        words: of the command line.
        more: keys that the verb has besides those of ``report``.

    Raises:
        UsageError: an unknown key, or another word.
    """
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(
                f"key=value is wanted, not {word!r}; python -m unibench report paper=uniprunebench"
                " table=1"
            )
        if key not in (*OWN, *FILTERS, *more):
            raise unknown("option", key, (*OWN, *FILTERS, *more))
        given[key] = value
    return given


def _of_papers(given: Mapping[str, str]) -> list[Table]:
    mode = given.get("mode", "published")
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    names = reports.select(given.get("paper"), given.get("table"))
    if mode == "published":
        return [reports.published(name) for name in names]
    standin = StandIn(given.get("model"), given.get("task"))
    results = _results(
        {key: value for key, value in given.items() if key not in ("model", "task")}, empty=True
    )
    return [
        Comparison(
            name,
            Results(results, reports.rows(name), standin),
            reports.beyond,
            mode == "difference",
        ).table()
        for name in names
    ]


def _results(given: Mapping[str, str], empty: bool = False) -> pd.DataFrame:
    """Finished cells that fit the filters, seeds joined; with ``empty`` a folder that does not
    exist has none.

    Raises:
        UsageError: no such folder, or nothing fits.
    """
    if empty and not Path(given.get("out", "outputs")).is_dir():
        return frames.over_seeds(frames.build([]))
    return frames.over_seeds(finished(given))


def finished(given: Mapping[str, str]) -> pd.DataFrame:
    """Finished cells of the folder ``out`` that fit the filters; vanilla always stays.

    Raises:
        UsageError: no such folder, or nothing fits.
    """
    folder = Path(given.get("out", "outputs"))
    filters = {name: value for name, value in given.items() if name in frames.FILTERS}
    return frames.selected(frames.load(folder), filters, folder)


def _write(folder: Path, form: str, texts: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        replace(folder / f"{name}.{form}", text)
    print(f"{len(texts)} tables in {folder}")
