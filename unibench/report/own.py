"""One's own results: a block for each model, methods and ratios as lines, tasks or abilities as
columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import Any

import pandas as pd

from unibench.comparison.against import Against
from unibench.errors import UsageError, unknown
from unibench.frame import conditions, difference, labels
from unibench.inference.row import ALL
from unibench.inference.row import columns as names
from unibench.registry import category
from unibench.report.by_group import groups
from unibench.report.in_order import order
from unibench.report.over_control import MARK, NOTE
from unibench.report.over_frames import more_frames
from unibench.report.overlap import diagnostics
from unibench.report.table import Block, Entry, Line, Source, Table
from unibench.store import versions as releases

MISSING = "–"
BUDGET = names("budget_mode", "budget_scope")
COLUMN = names("task", "harness", "judge", "metric")  # what a column of a table shows
Result = Mapping[Hashable, Any]  # one line of the frame
# views that are tables of their own
OWN_TABLES = {
    "groups": groups,
    "diagnostics": diagnostics,
    "more_frames": more_frames,
    "order": order,
}
VIEWS = ("tasks", "abilities", "place", "aim", *OWN_TABLES)


@dataclass(frozen=True)
class Column:
    """A column of scores: one task as one harness and judge score it, or one ability."""

    title: str
    key: tuple[Hashable, ...]


def grid(
    frame: pd.DataFrame, view: str = "tasks", found: Mapping[str, Against] = MappingProxyType({})
) -> list[Table]:
    """Tables of results, one for each budget mode and scope: these never share a table.

    Args:
        frame: finished cells with seeds joined, the columns of ``unibench.frame``.
        view: columns are ``tasks`` or ``abilities``; or the ``groups`` of samples that a smaller
            picture makes; or the ``diagnostics`` of the choices; or methods on ``more_frames``
            beside the unpruned model on fewer; or how far models and tasks agree on the ``order``
            of methods; or methods are averaged by the ``place`` where they cut or by their
            ``aim``.
        found: each method against the best control, see
            :func:`unibench.comparison.against.against`; scores of tasks that are not beyond their
            control are marked.

    Raises:
        UsageError: no such view, no results, or a column with results of several settings.
    """
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    if view in OWN_TABLES and len(frame):
        return OWN_TABLES[view](frame)
    if not len(frame):
        raise UsageError(
            "there are no finished cells; out=<folder> names the results of earlier runs"
        )
    pruned = frame[frame["method"] != "vanilla"]
    budgets = (pruned if len(pruned) else frame)[list(BUDGET)].drop_duplicates()
    modes = [(str(mode), str(scope)) for mode, scope in budgets.itertuples(index=False, name=None)]
    marked = {series for series, one in found.items() if not one.beaten and view == "tasks"}
    return [_table(_of_mode(frame, mode), view, mode, len(modes) > 1, marked) for mode in modes]


def _of_mode(frame: pd.DataFrame, mode: tuple[str, str]) -> pd.DataFrame:
    """Lines of a budget mode, and vanilla, which has none."""
    same = (frame[BUDGET[0]] == mode[0]) & (frame[BUDGET[1]] == mode[1])
    return frame[same | (frame["method"] == "vanilla")]


def _table(
    frame: pd.DataFrame, view: str, mode: tuple[str, str], several: bool, marked: Set[str]
) -> Table:
    lines = frame[frame["main"] & ((frame["ability"] == ALL) != (view == "abilities"))]
    if not len(lines):
        raise UsageError("no result has abilities; leave view=abilities out")
    lines = lines.sort_values("method", key=lambda methods: methods != "vanilla", kind="stable")
    columns = list(_columns(lines, view))
    blocks = tuple(
        Block(label, tuple(_lines(part, columns, view, marked)))
        for label, part in conditions(lines)
    )
    title = "score out of 100" + (
        f", budget.mode={mode[0]} budget.scope={mode[1]}"
        if several or mode != ("at_stage", "sequence")
        else ""
    )
    heads = ("category", "ratio") if view in ("place", "aim") else ("method", "ratio")
    remarks: tuple[str, ...] = (
        (
            "ratio: share of visual tokens removed. average: of the columns; of vanilla: mean of"
            " each column's ratio to vanilla."
        ),
        (
            "same budget as: ratio of a method before the language model whose layers process as"
            " many visual tokens on average."
        ),
    )
    if view == "abilities":
        remarks = (*remarks, _sizes(lines, columns))
    if said := releases.several(lines["versions"]):
        remarks = (*remarks, said)
    titles = (*(column.title for column in columns), "average", "of vanilla %", "same budget as")
    notes = {MARK: NOTE} if marked & set(lines["series"]) else {}
    return Table("_".join(("results", *mode)), title, heads, titles, blocks, notes, remarks)


def _columns(lines: pd.DataFrame, view: str) -> Iterator[Column]:
    """A column for each task; harness, judge and metric are named where a task has several."""
    keys = [*COLUMN, "ability"] if view == "abilities" else list(COLUMN)
    found = lines[keys].drop_duplicates()
    for values in found.itertuples(index=False, name=None):
        apart = [
            str(value or "none")
            for key, value in zip(COLUMN[1:], values[1:4], strict=True)
            if _several(found, values[0], key)
        ]
        task = f"{values[0]} ({', '.join(apart)})" if apart else str(values[0])
        ability = str(values[-1]).replace("_", " ")
        several = found["task"].nunique() > 1
        title = task if view != "abilities" else f"{task}: {ability}" if several else ability
        yield Column(title, tuple(values))


def _sizes(lines: pd.DataFrame, columns: Sequence[Column]) -> str:
    """How many samples each column is of: few of them make a score that says little."""
    counts = [(column.title, sorted({*_of_column(lines, column)["n"]})) for column in columns]
    said = (f"{title} {' or '.join(map(str, sizes))}" for title, sizes in counts)
    return f"samples: {', '.join(said)}."


def _several(found: pd.DataFrame, task: str, key: str) -> bool:
    return int(found.loc[found["task"] == task, key].nunique(dropna=False)) > 1


def _lines(
    part: pd.DataFrame, columns: Sequence[Column], view: str, marked: Set[str]
) -> Iterator[Line]:
    """The lines of one model under one condition.

    Raises:
        UsageError: a column has results of several settings, for example of other data.
    """
    for column in columns:
        cells = _of_column(part, column)
        if cells["setting"].nunique() > 1:
            settings = cells.drop_duplicates("setting")
            raise UsageError(
                f"{column.title} has results of {len(settings)} settings, which are never mixed;"
                f" choose one with {difference(settings)}"
            )
    if view in ("place", "aim"):
        yield from _categories(part, columns, view)
        return
    for (method, variant, budget), versions in _versions(part).items():
        apart = dict.fromkeys(versions, "")
        if len(versions) > 1:  # before and after an edit, say
            records = [record for cells in versions.values() for record in cells]
            apart = labels(pd.DataFrame(records), "candidate")
        for candidate, found in versions.items():
            scores = [_cell(found, column) for column in columns]
            label = " ".join(filter(None, (method, variant, apart[candidate]))), budget
            entries = [_score(cell, marked) for cell in scores]
            yield Line(label, (*entries, *_summary(scores)))


def _versions(part: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, list[Result]]]:
    """The results of each method at a budget, by candidate; in one pass, since a frame is slow to
    be asked thousands of times.
    """
    found: dict[tuple[str, str, str], dict[str, list[Result]]] = {}
    for record in part.to_dict("records"):
        name = str(record["method"]), str(record["variant"]), str(record["budget"])
        versions = found.setdefault(name, {})
        versions.setdefault(str(record["candidate"]), []).append(record)
    return found


def _of_column(cells: pd.DataFrame, column: Column) -> pd.DataFrame:
    value: Any
    for name, value in zip((*COLUMN, "ability"), column.key, strict=False):
        cells = cells[cells[name].isna() if pd.isna(value) else cells[name] == value]
    return cells


def _cell(candidate: Sequence[Result], column: Column) -> Result | None:
    """The result of a candidate in a column; it has one, since the column has one setting."""
    names = (*COLUMN, "ability")[: len(column.key)]
    wanted: tuple[Any, ...] = column.key
    for result in candidate:
        values = (result[name] for name in names)
        if all(
            one == other or (pd.isna(one) and pd.isna(other))
            for one, other in zip(values, wanted, strict=True)
        ):
            return result
    return None


def _score(cell: Result | None, marked: Set[str]) -> Entry:
    if cell is None:
        return Entry(MISSING)
    spread: str = "" if pd.isna(cell["std"]) else f" ± {cell['std']:.1f}"
    marks = (MARK,) if cell["series"] in marked and cell["main"] else ()
    return Entry(f"{cell['score_100']:.1f}{spread}", marks=marks, source=_source(cell))


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _source(cell: Result) -> Source:
    low, high, drop = (_known(cell[name]) for name in ("low", "high", "drop_pct"))
    score, ability = float(cell["score_100"]), str(cell["ability"])
    return Source(score, tuple(cell["folder"]), ability, low, high, drop)


def _summary(scores: Sequence[Result | None]) -> list[Entry]:
    """Average, share of vanilla and equal budget; only over complete lines, or methods would be
    compared on other tasks.
    """
    known = [cell for cell in scores if cell is not None]
    if len(known) < len(scores):
        return [Entry(MISSING)] * 3
    shares = [float(cell["retention_pct"]) for cell in known]
    share = MISSING if any(pd.isna(value) for value in shares) else f"{fmean(shares):.1f}"
    return [
        Entry(f"{fmean(float(cell['score_100']) for cell in known):.1f}"),
        Entry(share),
        Entry(same_budget(known)),
    ]


def same_budget(cells: Sequence[Result]) -> str:
    """Ratio of a pre-LLM method whose layers process as many visual tokens on average."""
    shares = [
        1 - float(cell["equiv_tokens"]) / float(cell["tokens_in"])
        for cell in cells
        if cell["tokens_in"]
    ]
    return f"pre-LLM {max(0.0, fmean(shares)):.3f}" if shares else MISSING


def _categories(part: pd.DataFrame, columns: Sequence[Column], grouping: str) -> Iterator[Line]:
    """Means over the methods of a category at one budget, of those that have every column.

    Raises:
        UsageError: a method has several versions, which would count as several methods.
    """
    for (_, method), versions in part.groupby(["setting", "method"], sort=False):
        same = versions.drop_duplicates("series")
        twice = same[same.duplicated(["variant", "budget"], keep=False)]
        if len(twice):
            raise UsageError(
                f"{method} has several versions, which would count as several methods; choose one"
                f" with {difference(twice)}"
            )
    groups = part["method"].map(
        lambda method: "vanilla" if method == "vanilla" else category(str(method), grouping)
    )
    for (group, budget), own in part.groupby([groups, part["budget"]], sort=False):
        complete = list(_complete(own, columns))
        label = (str(group) if group == "vanilla" else f"{group} ({len(complete)})", str(budget))
        if not complete:
            yield Line(label, (Entry(MISSING),) * (len(columns) + 3))
            continue
        means = []
        for cells in zip(*complete, strict=True):
            means.append(Entry(f"{fmean(float(cell['score_100']) for cell in cells):.1f}"))
        yield Line(label, (*means, *_summary([cell for line in complete for cell in line])))


def _complete(own: pd.DataFrame, columns: Sequence[Column]) -> Iterator[list[Result]]:
    """The results of each candidate that has one for every column."""
    candidates: dict[str, list[Result]] = {}
    for record in own.to_dict("records"):
        candidates.setdefault(str(record["candidate"]), []).append(record)
    for cells in candidates.values():
        found = [cell for column in columns if (cell := _cell(cells, column)) is not None]
        if len(found) == len(columns):
            yield found
