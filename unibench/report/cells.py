"""The rows of a run in detail: what it prints when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from unibench.config import BudgetConfig
from unibench.report.table import Block, Entry, Line, Table
from unibench.stats import OverSeeds, over_seeds

Row = Mapping[str, Any]
Shown = Callable[[Row], str]
ABSENT = "-"


def _number(key: str, form: str = ".1f", factor: float = 1.0, unit: str = "") -> Shown:
    return lambda row: ABSENT if row[key] is None else f"{factor * row[key]:{form}}{unit}"


def _equal_budget(row: Row) -> str:
    return (
        f"pre-LLM {max(0.0, 1 - row['equiv_tokens'] / row['tokens_in']):.3f}"
        if row["tokens_in"]
        else ABSENT
    )


SCORES: dict[str, Shown] = {
    "n": _number("n", ".0f"),
    "score": _number("score_100"),
    "95 %": lambda row: (
        ABSENT if row["ci_low"] is None else f"{row['ci_low']:.1f}-{row['ci_high']:.1f}"
    ),
    "drop %": _number("drop_pct"),
    "same budget as": _equal_budget,
}
COSTS: dict[str, Shown] = {
    "tokens kept": lambda row: f"{row['kept_mean']:.1f} of {row['tokens_in']:.1f}",
    "TFLOP": _number("tflops", ".3g"),
    "of vanilla": _number("tflops_ratio", ".1f", 100, " %"),
    "KV MiB": _number("kv_mib", ".3g"),
    "vision ms": _number("vision_ms"),
    "prefill ms": _number("prefill_ms"),
    "method ms": _number("method_ms", ".2f"),
    "decode ms/token": _number("decode_ms_per_token", ".2f"),
    "total s": _number("total_s"),
}

SEEDS: dict[str, Shown] = {
    "mean": _number("mean"),
    "std": _number("std"),
    "seeds": _number("seeds", ".0f"),
}


def details(rows: Sequence[Row]) -> Iterator[Table]:
    """For each model, task and budget mode a table of scores and one of costs.

    Args:
        rows: of finished cells, as in their ``metrics.json``.
    """
    for (model, task, mode), group in _groups(rows).items():
        meant = f", budget {mode}" if mode != BudgetConfig().mode else ""
        title = f"{model} on {task}: {group[0]['metric']}, per cent{meant}"
        notes = [f"{row['method']}: {note}" for row in group for note in row["notes"]]
        yield _table(
            f"{model}_{task}_{mode}_scores", title, group, {**SCORES, **_abilities(group[0])}, ()
        )
        if several := [found for found in over_seeds(group) if found.n > 1]:
            yield _table(
                f"{model}_{task}_{mode}_seeds",
                "over seeds: score",
                [_over(found) for found in several],
                SEEDS,
                (),
            )
        yield _table(
            f"{model}_{task}_{mode}_costs", "cost of a sample, median", group, COSTS, notes
        )


def _over(found: OverSeeds) -> Row:
    return {**found.row, "mean": found.mean, "std": found.std, "seeds": found.n}


def _groups(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows of a table: those of one model, task and way to count the budget; vanilla stands in
    each.
    """
    found: dict[tuple[str, str, str], list[Row]] = {}
    for place in dict.fromkeys((row["model"], row["task"]) for row in rows):
        here = [row for row in rows if (row["model"], row["task"]) == place]
        modes = dict.fromkeys(row["budget_mode"] for row in here if row["method"] != "vanilla") or {
            here[0]["budget_mode"]: None
        }
        found |= {
            (*place, mode): [
                row for row in here if row["method"] == "vanilla" or row["budget_mode"] == mode
            ]
            for mode in modes
        }
    return found


def _abilities(row: Row) -> dict[str, Shown]:
    """A column for each ability, where there are several."""
    names = list(row["abilities"])

    def column(name: str) -> Shown:
        return lambda row: (
            f"{row['abilities'][name]['score_100']:.1f}" if name in row["abilities"] else ABSENT
        )

    return {name.replace("_", " "): column(name) for name in names} if len(names) > 1 else {}


def _table(
    name: str, title: str, rows: Sequence[Row], columns: Mapping[str, Shown], remarks: Sequence[str]
) -> Table:
    lines = [
        Line(
            (f"{row['method']} {row['variant']}".strip(), str(row["budget"])),
            tuple(Entry(shown(row)) for shown in columns.values()),
        )
        for row in rows
    ]
    return Table(
        name,
        title,
        ("method", "ratio"),
        tuple(columns),
        (Block("", tuple(lines)),),
        remarks=tuple(remarks),
    )
