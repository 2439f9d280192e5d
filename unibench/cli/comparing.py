"""``compare``: paired tests of methods or cells."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from unibench.cli.parser import Options
from unibench.cli.results import finished
from unibench.cli.showing import few_pictures
from unibench.cli.terminal import console, new_table, print_table
from unibench.comparison import compare as comparing
from unibench.comparison.compare import UNBUDGETED, Comparison, Side
from unibench.errors import UsageError
from unibench.stats.paired import FEW
from unibench.stats.several import Ranking
from unibench.store import versions

PAIRS = (
    *("model", "task", "budget", "first", "second", "n", "scores", "difference", "95 %"),
    *("won:lost", "p", "Holm", "test"),
)
SIDES = (
    *("model", "task", "budget", "method", "seeds", "drop %", "95 %", "loyalty %", "95 %"),
    *("lost %", "won %"),
)


def compare(options: Options) -> int:
    """``compare A B [C ...] [by=ability | ability=A,B] [model=..] [task=..] [budget=..]
    [out=outputs] [--json]``.
    """
    names = options.words
    if len(names) < 2:
        raise UsageError(
            "compare what? Two or more methods or cells, for example python -m unibench compare"
            " divprune fastv"
        )
    cells = finished(options)
    wanted = tuple(filter(None, (options.ability or "").split(",")))
    by_ability = options.by == "ability"
    comparisons = comparing.compare(cells, names, by_ability=by_ability, abilities=wanted)
    if options.json:
        print(json.dumps([comparing.as_record(one) for one in comparisons], indent=1))
        return 0
    apart = by_ability or bool(wanted)
    print_table(_pairs(comparisons, apart), keys=5 + apart)
    print_table(_sides(comparisons, apart), keys=4 + apart)
    folders = {
        folder for one in comparisons for side in (one.first, one.second) for folder in side.folders
    }
    if said := versions.several(cells.loc[cells["folder"].isin(folders), "versions"]):
        console().print(said)
    pruned = [name for name in names if name != "vanilla"]
    if len(pruned) > 2 and not apart:
        _print_ranking(cells, pruned)
    fewest = min(one.result.pictures for one in comparisons)
    if fewest < FEW:
        console().print(few_pictures(fewest))
    count = f"{len(comparisons)} comparison{'' if len(comparisons) == 1 else 's'}"
    console().print(
        "difference: second minus first, in points of 100, with its 95 % interval (bootstrap over"
        f" pictures).\np: two-sided; Holm: corrected for the {count} above.\nMcNemar: exact, right"
        " or wrong with one question to a picture. sign flips: exact, where few pictures differ.\n"
        "loyalty: same answer as vanilla."
    )
    return 0


def _pairs(comparisons: Sequence[Comparison], apart: bool) -> Table:
    """The comparisons; with their abilities where those are taken apart."""
    table = new_table("paired comparison", (*(["ability"] if apart else []), *PAIRS))
    for one in comparisons:
        result = one.result
        table.add_row(
            *([one.where["ability"]] if apart else []),
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


def _sides(comparisons: Sequence[Comparison], apart: bool) -> Table:
    """Each method against vanilla, once; or once for each ability."""
    table = new_table("against vanilla", (*(["ability"] if apart else []), *SIDES))
    sides: dict[tuple[str, ...], tuple[tuple[str, ...], Side]] = {}
    for one in comparisons:
        ability = [one.where["ability"]] if apart else []
        for side in (one.first, one.second):
            model, task, _ = _where(one)
            where = (*ability, model, task, side.budget)
            sides.setdefault((*ability, *side.folders), (where, side))
    for where, side in sides.values():
        if side.agreement is not None:
            same = side.agreement
            table.add_row(
                *where,
                side.name,
                str(len(side.folders)),
                *_drop_of(side),
                f"{100 * same.loyalty:.1f}",
                f"{100 * same.interval.low:.1f} to {100 * same.interval.high:.1f}",
                f"{100 * same.lost:.1f}",
                f"{100 * same.won:.1f}",
            )
    return table


def _drop_of(side: Side) -> tuple[str, str]:
    """The drop and its interval; a vanilla that answers nothing right leaves none."""
    if side.drop is None:
        return "-", "-"
    return f"{side.drop.value:.1f}", f"{side.drop.low:.1f} to {side.drop.high:.1f}"


def _print_ranking(cells: pd.DataFrame, names: Sequence[str]) -> None:
    try:
        ranking = comparing.rank(cells, names)
    except UsageError as error:
        console().print(f"no ranks: {error}")
        return
    print_table(_ranks(ranking), keys=1)
    console().print(
        f"Friedman over {ranking.tasks} tasks: chi2 {ranking.statistic:.2f}, p {ranking.p:.3g}. "
        f"Nemenyi: mean ranks differ at 5 % from {ranking.critical_difference:.2f} on."
    )


def _ranks(ranking: Ranking) -> Table:
    table = new_table(
        "mean rank, and Nemenyi's p of each pair", ("method", "rank", *ranking.mean_ranks.index)
    )
    for name, mean in ranking.mean_ranks.items():
        table.add_row(
            str(name), f"{mean:.2f}", *(f"{p:.3g}" for p in ranking.nemenyi.loc[[name]].iloc[0])
        )
    return table


def _where(one: Comparison) -> tuple[str, str, str]:
    budgets = dict.fromkeys(
        side.budget for side in (one.first, one.second) if side.name not in UNBUDGETED
    )
    return one.where["model"], one.where["task"], " / ".join(budgets)
