"""What the choices of methods are like, and how much they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pandas as pd

from unibench import frame as frames
from unibench.errors import UsageError
from unibench.frame import conditions, labels, whole
from unibench.inference.row import Change, Row, RowError, read_row
from unibench.report.table import Block, Entry, Line, Table

if TYPE_CHECKING:
    from unibench.diagnostics.places import Mask

MISSING = "–"
RANDOM = "random_pre"
DIAGNOSED = ("coverage", "edge", "centre", "boxed", "effective_rank", "nearest_cosine", "attention")
COLUMNS = (
    *("coverage", "edge", "centre", "boxed", "effective rank", "nearest cosine", "attention"),
    *("as random", "as next budget", "harm %", "gain %", "tokens more"),
)
REMARKS = (
    (
        "coverage: share of the picture's tokens that are kept or touch one that is; edge, centre:"
        " share of the kept tokens in the outermost rows and columns, and in the middle half of"
        " both (compare with vanilla's); boxed: share kept of what the question is about."
    ),
    (
        "effective rank, nearest cosine, attention: of the kept tokens, with diagnostics=all;"
        " attention: their share of the last token's attention on visual tokens, at the layers that"
        " the method reads."
    ),
    (
        "as random, as next budget: tokens in common, Jaccard's index, with random_pre at the same"
        " budget and with the method itself at the next smaller one."
    ),
    (
        "harm, gain: of vanilla's right answers those that are wrong, of its wrong answers those"
        " that are right; tokens more: of an answer, beside vanilla's."
    ),
)

Cell = Mapping[Any, Any]  # a line of the frame


@dataclass(frozen=True)
class _Setting:
    """The cells of a model, task and setting.

    Attributes:
        place: its name.
        cells: lines of the frame, seeds joined.
    """

    place: str
    cells: Sequence[Cell]


def diagnostics(frame: pd.DataFrame) -> list[Table]:
    """A table of the diagnostics, and one of what methods have in common at each budget.

    Args:
        frame: finished cells with seeds joined.
    """
    settings = list(_settings(frame))
    blocks = tuple(
        Block(setting.place, tuple(_line(cell, setting.cells) for cell in setting.cells))
        for setting in settings
    )
    heads = ("method", "ratio")
    tables = [Table("diagnostics", "choices of tokens", heads, COLUMNS, blocks, remarks=REMARKS)]
    return [*tables, *(table for setting in settings for table in _common(setting))]


def _settings(frame: pd.DataFrame) -> Iterator[_Setting]:
    for label, part in conditions(whole(frame)):
        for task, here in part.groupby("task", sort=False):
            apart = labels(here, "setting")
            for setting, group in here.groupby("setting", sort=False):
                place = ", ".join(filter(None, (f"{label} on {task}", apart[str(setting)])))
                yield _Setting(place, group.to_dict("records"))


def _line(cell: Cell, cells: Sequence[Cell]) -> Line:
    rows = list(_rows(cell["folder"]))
    values = [_mean([getattr(row.diagnosis, name) for row in rows]) for name in DIAGNOSED]
    random = [one for one in cells if one["method"] == RANDOM and _same_budget(one, cell)]
    smaller = _next_budget(cell, cells)
    values.append(_overlap(cell, random[0]) if random and random[0] is not cell else None)
    values.append(_overlap(cell, smaller) if smaller is not None else None)
    changes = [row.change for row in rows if row.change is not None]
    texts = [
        _text(value, ".1f" if name == "effective_rank" else ".3f")
        for name, value in zip((*DIAGNOSED, "", ""), values, strict=True)
    ]
    texts += [_text(_of(changes, name), ".1f") for name in ("harm_pct", "gain_pct")]
    texts.append(_text(_of(changes, "new_tokens"), "+.2f"))
    return Line(_label(cell), tuple(map(Entry, texts)))


def _common(setting: _Setting) -> Iterator[Table]:
    """Of each budget at which two methods were run, a table of what each pair has in common."""
    pruned = [cell for cell in setting.cells if cell["method"] != "vanilla" and _masks(cell)]
    budgets = dict.fromkeys((cell["budget"], cell["budget_scope"]) for cell in pruned)
    for number, budget in enumerate(budgets):
        here = [cell for cell in pruned if (cell["budget"], cell["budget_scope"]) == budget]
        if len(here) < 2:
            continue
        names = [_label(cell)[0] for cell in here]
        lines = []
        for name, one in zip(names, here, strict=True):
            texts = [_text(_overlap(one, two), ".2f") for two in here]
            lines.append(Line((name,), tuple(map(Entry, texts))))
        yield Table(
            f"overlap_{number}",
            f"tokens in common (Jaccard), {setting.place} at {budget[0]}",
            ("method",),
            tuple(names),
            (Block("", tuple(lines)),),
        )


def _rows(folders: Sequence[str]) -> Iterator[Row]:
    for folder in folders:
        try:
            yield read_row(Path(folder))
        except RowError:  # gone or damaged since the frame was made
            continue


def _next_budget(cell: Cell, cells: Sequence[Cell]) -> Cell | None:
    """The same method at the next smaller budget."""
    same = ("method", "params", "budget_mode", "budget_scope", "source")
    fewer = [
        one
        for one in cells
        if all(one[name] == cell[name] for name in same) and one["kept_mean"] < cell["kept_mean"]
    ]
    return max(fewer, key=lambda one: float(one["kept_mean"]), default=None)


def _same_budget(one: Cell, other: Cell) -> bool:
    return all(one[name] == other[name] for name in ("budget", "budget_scope"))


def _overlap(one: Cell, other: Cell) -> float | None:
    """Mean Jaccard index over the samples of both, of their first seeds."""
    from unibench.diagnostics.places import jaccard

    first, second = _masks(one), _masks(other)
    both = [name for name in first if name in second and len(first[name]) == len(second[name])]
    return fmean(jaccard(first[name], second[name]) for name in both) if both else None


def _masks(cell: Cell) -> dict[str, Mask]:
    return _masks_in(str(cell["folder"][0]))


@lru_cache(maxsize=256)
def _masks_in(folder: str) -> dict[str, Mask]:
    """The tokens that each sample of a cell kept to the end; nothing where no record tells."""
    from unibench.diagnostics.places import mask

    try:
        samples = frames.samples(folder)
    except UsageError:
        return {}
    records = zip(samples.index, samples["last"], samples["visual_tokens"], strict=True)
    return {str(name): mask(last, count) for name, last, count in records if last}


def _of(changes: Sequence[Change], name: str) -> float | None:
    return _mean([getattr(change, name) for change in changes])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _text(value: float | None, form: str) -> str:
    return MISSING if value is None else f"{value:{form}}"


def _label(cell: Cell) -> tuple[str, str]:
    return f"{cell['method']} {cell['variant']}".strip(), str(cell["budget"])
