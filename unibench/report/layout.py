"""How a paper sets its tables: titles, block labels, names, from ``layouts.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from unibench.report.published import FOLDER, Column, Row


@dataclass(frozen=True)
class Layout:
    """The setting of one table.

    Attributes:
        title: one line.
        vanilla: block label of the unpruned lines.
        block: block label of the others; names of a line's facts in braces.
        average: ``columns``, ``ratios`` or None: the table has no average.
        changes: below each method its change against vanilla, in per cent.
        bold: the best of each block and column is bold.
        experiment: whose cells fill it, where that is not the table's own.
        tasks: benchmark -> the task that asks its questions, where that is not the one of its name.
        defaults: method -> parameters that the experiment varies; those at their defaults fill it.
    """

    title: str
    block: str
    vanilla: str = ""
    average: str | None = None
    changes: bool = False
    bold: bool = False
    experiment: str | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Sequence[str]] = field(default_factory=dict)


@cache
def _layouts(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((folder / "layouts.yaml").read_text(encoding="utf-8"))
    return loaded


def layout_of(name: str, folder: Path = FOLDER) -> Layout:
    """The layout of a table."""
    return Layout(**_layouts(folder)["tables"][name])


def names(folder: Path = FOLDER) -> dict[str, dict[str, str]]:
    """How the published tables write names, by kind and name."""
    found: dict[str, dict[str, str]] = _layouts(folder)["names"]
    return found


def shown(kind: str, name: str, folder: Path = FOLDER) -> str:
    """How a model, method, benchmark, metric or category is written in a table."""
    return str(_layouts(folder)["names"][kind].get(name, name))


def method_name(method: str) -> str:
    """``DivPrune + FastV`` for ``divprune+fastv``."""
    return " + ".join(shown("methods", part) for part in method.split("+"))


def experiment_of(name: str, folder: Path = FOLDER) -> str:
    """Name under ``configs/experiment`` of the cells of a table."""
    return layout_of(name, folder).experiment or name


def is_cost(column: Column, folder: Path = FOLDER) -> bool:
    """A time, a size, a count of operations: no score."""
    return column[1] in _layouts(folder)["names"]["metrics"]


def column_name(column: Column, columns: Sequence[Column]) -> str:
    """The benchmark, and its metric where the benchmark has several columns or the number is a
    cost.
    """
    benchmark, metric = column
    several = sum(other == benchmark for other, _ in columns) > 1
    parts = [
        shown("benchmarks", benchmark),
        shown("metrics", metric) if several or is_cost(column) else "",
    ]
    return " ".join(part for part in parts if part)


def block_label(row: Row, layout: Layout) -> str:
    """The label above a line."""
    template = layout.vanilla if row.method == "vanilla" else layout.block
    kept = float(row.retention or "nan")
    label = template.format(
        model=shown("models", row.model),
        method=method_name(row.method),
        category=shown("categories", row.category),
        kept=row.kept,
        retained=f"{100 * kept:.3g}",
        removed=f"{100 * (1 - kept):.3g}",
    )
    return f"{label}, printed a second time" if row.duplicate else label
