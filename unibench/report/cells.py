"""The results of a run in detail: what it prints when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from unibench.report.grid import same_budget
from unibench.report.table import Block, Entry, Line, Table

Shown = Callable[[pd.Series], str]


def _number(key: str, form: str = ".1f", factor: float = 1.0, unit: str = "") -> Shown:
    return lambda line: "-" if pd.isna(line[key]) else f"{factor * line[key]:{form}}{unit}"


SCORES: dict[str, Shown] = {
    "n": _number("n", ".0f"),
    "score": _number("score_100"),
    "95 %": lambda line: "-" if pd.isna(line["low"]) else f"{line['low']:.1f}-{line['high']:.1f}",
    "drop %": _number("drop_pct"),
    "same budget as": lambda line: same_budget([line]),
}
COSTS: dict[str, Shown] = {
    "tokens kept": lambda line: f"{line['kept_mean']:.1f} of {line['tokens_in']:.1f}",
    "TFLOP": _number("tflops", ".3g"),
    "of vanilla": _number("tflops_ratio", ".1f", 100, " %"),
    "KV MiB": _number("kv_mib", ".3g"),
    "vision ms": _number("vision_ms"),
    "prefill ms": _number("prefill_ms"),
    "method ms": _number("method_ms", ".2f"),
    "decode ms/token": _number("decode_ms_per_token", ".2f"),
    "total s": _number("total_s"),
}


def details(frame: pd.DataFrame) -> Iterator[Table]:
    """For each model and task a table of scores and one of costs.

    Args:
        frame: finished cells, the columns of ``unibench.frame``.
    """
    for (model, task), part in frame[frame["main"]].groupby(["model", "task"], sort=False):
        whole = part[part["ability"] == "all"]
        abilities = [name for name in part["ability"].unique() if name != "all"]
        scores = dict(SCORES) | ({name.replace("_", " "): _of(part, name) for name in abilities} if len(abilities) > 1 else {})
        metric = whole.iloc[0]["metric"]
        yield _table(f"{model}_{task}_scores", f"{model} on {task}: {metric}, per cent", whole, scores)
        yield _table(f"{model}_{task}_costs", "cost of a sample, median", whole, COSTS)


def _of(part: pd.DataFrame, ability: str) -> Shown:
    scores = part[part["ability"] == ability].set_index("key")["score_100"].to_dict()
    return lambda line: f"{scores[line['key']]:.1f}" if line["key"] in scores else "-"


def _table(name: str, title: str, lines: pd.DataFrame, columns: dict[str, Shown]) -> Table:
    made = [
        Line((f"{line['method']} {line['variant']}".strip(), str(line["budget"])), tuple(Entry(shown(line)) for shown in columns.values()))
        for _, line in lines.iterrows()
    ]
    return Table(name, title, ("method", "ratio"), tuple(columns), (Block("", tuple(made)),))
