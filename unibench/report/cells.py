"""The rows of a run in detail: what it prints when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd

from unibench import frame
from unibench.config import BudgetConfig
from unibench.inference.row import Row
from unibench.report.table import Block, Entry, Line, Table

ABSENT = "-"


def _number(
    key: str, form: str = ".1f", factor: float = 1.0, unit: str = ""
) -> Callable[[Row], str]:
    """Shows a column of a row."""
    return lambda row: _text(getattr(row, key), form, factor, unit)


def _text(value: float | None, form: str, factor: float = 1.0, unit: str = "") -> str:
    return ABSENT if value is None or value != value else f"{factor * value:{form}}{unit}"


def _equal_budget(row: Row) -> str:
    if not row.tokens_in:
        return ABSENT
    return f"pre-LLM {max(0.0, 1 - row.equiv_tokens / row.tokens_in):.3f}"


def _interval(row: Row) -> str:
    low, high = row.ci_low, row.ci_high
    return ABSENT if low is None or high is None else f"{low:.1f}-{high:.1f}"


SCORES: dict[str, Callable[[Row], str]] = {
    "n": _number("n", ".0f"),
    "score": _number("score_100"),
    "95 %": _interval,
    "drop %": _number("drop_pct"),
    "same budget as": _equal_budget,
}
HEADS = {"method": "label", "ratio": "budget", "seed": "seed"}  # and what fills them
COSTS: dict[str, Callable[[Row], str]] = {
    "tokens kept": lambda row: f"{row.kept_mean:.1f} of {row.tokens_in:.1f}",
    "TFLOP": _number("tflops", ".3g"),
    "of vanilla": _number("tflops_ratio", ".1f", 100, " %"),
    "KV MiB": _number("kv_mib", ".3g"),
    "vision ms": _number("vision_ms"),
    "prefill ms": _number("prefill_ms"),
    "method ms": _number("method_ms", ".2f"),
    "decode ms/token": _number("decode_ms_per_token", ".2f"),
    "total s": _number("total_s"),
}


def details(rows: Sequence[Row]) -> Iterator[Table]:
    """For each model, task, setting and budget mode a table of scores and one of costs.

    Args:
        rows: of finished cells.
    """
    lines = frame.whole(frame.of_rows(rows))
    for (model, task), here in lines.groupby(["model", "task"], sort=False):
        labels = frame.labels(here, "setting")
        for setting, label in labels.items():
            group = [row for row in rows if row.setting == setting]
            place = ", ".join(filter(None, (f"{model} on {task}", label)))
            for mode in _modes(group):
                part = [row for row in group if row.method == "vanilla" or row.budget_mode == mode]
                yield from _tables(f"{model}_{task}_{mode}", place, mode, part)


def _tables(name: str, place: str, mode: str, rows: Sequence[Row]) -> Iterator[Table]:
    """Scores, seeds where there are several, and costs of rows of one setting and budget mode."""
    meant = f", budget {mode}" if mode != BudgetConfig().mode else ""
    scores = {**SCORES, **_abilities(rows[0])}
    title = f"{place}: {rows[0].metric}, per cent{meant}"
    heads = _heads(rows)
    yield _table(f"{name}_scores", title, _shown(rows, scores), tuple(scores), heads=heads)
    seeds = frame.over_seeds(frame.whole(frame.of_rows(rows)), intervals=False)
    if len(several := seeds[seeds["seeds"] > 1]):
        lines = tuple(_over_seeds(line) for _, line in several.iterrows())
        yield _table(f"{name}_seeds", "over seeds: score", lines, ("mean", "std", "seeds"))
    # a method says the same at every budget and seed
    notes = list(dict.fromkeys(f"{row.method}: {note}" for row in rows for note in row.notes))
    costs = _shown(rows, COSTS)
    title = "cost of a sample, median"
    yield _table(f"{name}_costs", title, costs, tuple(COSTS), notes, heads=heads)


def _modes(rows: Sequence[Row]) -> list[str]:
    """What budgets mean among these rows; vanilla, which has none, stands in each table."""
    modes = dict.fromkeys(row.budget_mode for row in rows if row.method != "vanilla")
    return list(modes) or [rows[0].budget_mode]


def _abilities(row: Row) -> dict[str, Callable[[Row], str]]:
    """A column for each ability, where there are several."""

    def column(name: str) -> Callable[[Row], str]:
        return lambda row: (
            f"{row.abilities[name].score_100:.1f}" if name in row.abilities else ABSENT
        )

    names = list(row.abilities)
    return {name.replace("_", " "): column(name) for name in names} if len(names) > 1 else {}


def _shown(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> tuple[Line, ...]:
    """A line of each row."""
    heads = _heads(rows)
    return tuple(
        Line(
            tuple(str(getattr(row, HEADS[head])) for head in heads),
            tuple(Entry(shown(row)) for shown in columns.values()),
        )
        for row in rows
    )


def _heads(rows: Sequence[Row]) -> tuple[str, ...]:
    """What names a line among these rows."""
    seeds = {row.seed for row in rows}
    return ("method", "ratio", "seed") if len(seeds) > 1 else ("method", "ratio")


def _over_seeds(line: pd.Series) -> Line:
    name = f"{line['method']} {line['variant']}".strip()
    values = _text(line["score_100"], ".1f"), _text(line["std"], ".1f"), str(line["seeds"])
    return Line((name, str(line["budget"])), tuple(map(Entry, values)))


def _table(
    name: str,
    title: str,
    lines: tuple[Line, ...],
    columns: tuple[str, ...],
    remarks: Sequence[str] = (),
    heads: tuple[str, ...] = ("method", "ratio"),
) -> Table:
    return Table(name, title, heads, columns, (Block("", lines),), remarks=tuple(remarks))
