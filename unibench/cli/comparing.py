"""``compare`` and ``recommend``: what a folder of results says about methods."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from unibench import compare as comparing
from unibench import frame
from unibench import recommend as recommending
from unibench.cli.terminal import Terminal
from unibench.compare import Comparison, Side
from unibench.errors import UsageError, nearest, unknown
from unibench.stats.several import Ranking

PLACE = ("model", "task", "budget")


def compare(words: list[str]) -> int:
    """``compare A B [C ...] [model=..] [task=..] [budget=..] [out=outputs] [--json]``."""
    names, cells, flags = _read(words, ("--json",))
    if len(names) < 2:
        raise UsageError(
            "compare what? python -m unibench compare divprune fastv [model=.. task=.. budget=0.889"
            " out=outputs --json]"
        )
    found = comparing.compare(cells, names)
    if "--json" in flags:
        print(json.dumps([comparing.as_record(one) for one in found], indent=1))
        return 0
    console = _console()
    console.print(_pairs(found))
    console.print(_sides(found))
    pruned = [name for name in names if name != "vanilla"]
    if len(pruned) > 2:
        _print_ranking(console, cells, pruned)
    console.print(
        "difference: second minus first, in points of 100, with its 95 % interval (bootstrap over"
        " pictures)."
    )
    console.print(
        f"p: two-sided; Holm: corrected for the {len(found)}"
        f" comparison{'' if len(found) == 1 else 's'} above."
    )
    console.print(
        "McNemar: exact, right or wrong with one question to a picture. loyalty: same answer as"
        " vanilla."
    )
    return 0


def recommend(words: list[str]) -> int:
    """``recommend --max-drop 2 --metric prefill_ms [model=..] [task=..] [out=outputs]``."""
    options = {"--max-drop": "2", "--metric": "prefill_ms"}
    rest = _options(words, options)
    names, cells, _ = _read(rest, ())
    if names:
        raise UsageError(
            f"recommend takes no names, not {names[0]}: python -m unibench recommend --max-drop 2"
            " --metric prefill_ms"
        )
    try:
        max_drop = float(options["--max-drop"])
    except ValueError:
        raise UsageError(
            f"--max-drop {options['--max-drop']}: a number wanted, the relative drop in per cent,"
            " for example 2"
        ) from None
    console, metric = _console(), options["--metric"]
    for found in recommending.recommend(cells, max_drop=max_drop, metric=metric):
        title = (
            f"{found.model} on {found.device}: at most {max_drop:g} % below vanilla, least {metric}"
        )
        console.print(_front(title, found, max_drop, metric))
        if found.front:
            best = found.front[0]
            console.print(f"recommended: {best.name} at {best.budget}")
        else:
            near = found.nearest
            console.print(
                f"none of {found.tried} loses so little; the least is {near.name} at {near.budget}:"
                f" {near.drop.value:.1f} %"
            )
        if found.incomplete:
            console.print(f"left out, not run on all tasks: {', '.join(found.incomplete)}")
    console.print(
        "front: no other candidate has less drop at less cost. sure: the whole interval of the drop"
        " lies below the limit."
    )
    return 0


def _front(title: str, found: recommending.Recommendation, max_drop: float, metric: str) -> Table:
    table = _table(
        title, ("method", "budget", "tasks", "drop %", "95 %", "sure", metric, "95 %", "of vanilla")
    )
    for one in found.front:
        sure = "yes" if one.drop.high <= max_drop else "no"
        full = found.vanilla.value  # 0 of method_ms
        share = f"{100 * one.cost.value / full:.0f} %" if full else "-"
        table.add_row(
            one.name,
            one.budget,
            str(one.tasks),
            f"{one.drop.value:.1f}",
            _span(one.drop),
            sure,
            *_cost(one.cost),
            share,
        )
    table.add_row("vanilla", "0", "", "0.0", "", "", *_cost(found.vanilla), "100 %")
    return table


def _pairs(found: Sequence[Comparison]) -> Table:
    table = _table(
        "paired comparison",
        (
            "model",
            "task",
            "budget",
            "first",
            "second",
            "n",
            "scores",
            "difference",
            "95 %",
            "won:lost",
            "p",
            "Holm",
            "test",
        ),
    )
    for one in found:
        result = one.result
        table.add_row(
            *_where(one),
            one.first.name,
            one.second.name,
            str(result.n),
            f"{100 * result.first:.1f} {100 * result.second:.1f}",
            f"{100 * result.difference:+.1f}",
            f"{100 * result.low:+.1f} to {100 * result.high:+.1f}",
            f"{result.won}:{result.lost}",
            f"{result.p:.3g}",
            f"{one.p_holm:.3g}",
            result.test,
        )
    return table


def _sides(found: Sequence[Comparison]) -> Table:
    """Each method against vanilla, once."""
    table = _table(
        "against vanilla",
        (
            "model",
            "task",
            "budget",
            "method",
            "seeds",
            "drop %",
            "95 %",
            "loyalty %",
            "95 %",
            "lost %",
            "won %",
        ),
    )
    sides: dict[tuple[str, ...], tuple[tuple[str, str, str], Side]] = {}
    for one in found:
        for side in (one.first, one.second):
            sides.setdefault(side.folders, (_where(one), side))
    for where, side in sides.values():
        if side.agreement is not None:
            same = side.agreement
            loyalty = (
                f"{100 * same.loyalty:.1f}",
                f"{100 * same.interval.low:.1f} to {100 * same.interval.high:.1f}",
            )
            flips = f"{100 * same.lost:.1f}", f"{100 * same.won:.1f}"
            table.add_row(
                *where,
                side.name,
                str(len(side.folders)),
                "-" if side.drop is None else f"{side.drop.value:.1f}",
                "-" if side.drop is None else _span(side.drop),
                *loyalty,
                *flips,
            )
    return table


def _print_ranking(console: Terminal, cells: pd.DataFrame, names: Sequence[str]) -> None:
    try:
        found = comparing.rank(cells, names)
    except UsageError as error:
        console.print(f"no ranks: {error}")
        return
    console.print(_ranks(found))
    console.print(
        f"Friedman over {found.tasks} tasks: chi2 {found.statistic:.2f}, p {found.p:.3g}. "
        f"Nemenyi: mean ranks differ at 5 % from {found.critical_difference:.2f} on."
    )


def _ranks(found: Ranking) -> Table:
    table = _table(
        "mean rank, and Nemenyi's p of each pair", ("method", "rank", *found.mean_ranks.index)
    )
    for name, mean in found.mean_ranks.items():
        table.add_row(
            str(name), f"{mean:.2f}", *(f"{p:.3g}" for p in found.nemenyi.loc[[name]].iloc[0])
        )
    return table


def _where(one: Comparison) -> tuple[str, str, str]:
    mode = "" if one.where["budget_mode"] == "at_stage" else f" {one.where['budget_mode']}"
    return one.where["model"], one.where["task"], f"{one.where['budget']}{mode}"


def _span(found: Any) -> str:
    return f"{found.low:.1f} to {found.high:.1f}"


def _cost(found: Any) -> tuple[str, str]:
    digits = max(0, 2 - math.floor(math.log10(abs(found.value)))) if found.value else 0
    return f"{found.value:.{digits}f}", f"{found.low:.{digits}f} to {found.high:.{digits}f}"


def _read(words: Iterable[str], flags: Sequence[str]) -> tuple[list[str], pd.DataFrame, set[str]]:
    """Names, the frame of the results after the filters, and flags among the words of a command.

    Raises:
        UsageError: an unknown flag or filter, no results, or none that the filters let pass.
    """
    given = dict(word.split("=", 1) for word in words if _is_filter(word))
    rest = [word for word in words if not _is_filter(word)]
    for word in rest:
        if word.startswith("-") and word not in flags:
            raise UsageError(
                f"unknown option {word}.{nearest(word, flags)} See python -m unibench --help"
            )
    folder = Path(given.pop("out", "outputs"))
    filters = {"budget" if key == "ratio" else key: value for key, value in given.items()}
    cells = frame.selected(frame.load(folder), filters, folder)
    if cells.empty:
        raise UsageError(
            f"{folder} has no finished cell that fits; python -m unibench model=.. method=.."
            f" out={folder} makes one"
        )
    return (
        [word for word in rest if not word.startswith("-")],
        cells,
        {word for word in rest if word.startswith("-")},
    )


def _is_filter(word: str) -> bool:
    """Whether a word is ``key=value``; ``fastv+layer=3`` and folders are names.

    Raises:
        UsageError: no such key.
    """
    key, sign, _ = word.partition("=")
    if not sign or not key.isidentifier():
        return False
    allowed = ("out", "ratio", *frame.FILTERS)
    if key not in allowed:
        raise unknown("filter", key, allowed)
    return True


def _options(words: Sequence[str], options: dict[str, str]) -> list[str]:
    """Take ``--name value`` and ``--name=value`` into ``options``; returns the other words."""
    rest, pending = [], iter(words)
    for word in pending:
        name, sign, value = word.partition("=")
        if name not in options:
            rest.append(word)
            continue
        options[name] = value if sign else next(pending, "")
        if not options[name] or "=" in options[name]:
            raise UsageError(f"{name} needs a value, for example {name} 2")
    return rest


def _console() -> Terminal:
    return Terminal()


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for name in columns:
        table.add_column(
            name,
            justify=(
                "left"
                if name in ("model", "task", "first", "second", "method", "test")
                else "right"
            ),
        )
    return table
