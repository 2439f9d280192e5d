"""``recommend``: the Pareto-optimal methods of a folder of results."""

from __future__ import annotations

import math

from rich.table import Table

from unibench.cli.parser import Options
from unibench.cli.results import finished
from unibench.cli.terminal import console, new_table, print_table
from unibench.comparison import recommend as recommending
from unibench.comparison.recommend import Recommendation, Rival
from unibench.stats import Estimate


def recommend(options: Options) -> int:
    """``recommend --max-drop 2 --metric prefill_ms [model=..] [task=..] [out=outputs]``."""
    if options.max:
        from unibench.cli import budgeting

        return budgeting.recommend(options)
    screen, limit = console(), options.max_drop
    cells = finished(options)
    for found in recommending.recommend(cells, max_drop=limit, metric=options.metric):
        print_table(_front(found, limit, options.metric))
        if (best := found.best) is not None:
            screen.print(f"recommended: {best.name} at {best.budget}")
        elif found.front:
            screen.print(f"none has less {options.metric} than the unpruned model")
        else:
            near = found.nearest
            screen.print(
                f"none of {found.tried} loses so little; the least is {near.name} at {near.budget}:"
                f" {near.drop.value:.1f} %"
            )
        for rival in found.rivals:
            screen.print(_said(rival))
        if not found.controlled:
            screen.print(
                "no control was run on these tasks, so nothing says that a smaller picture does"
                " not do as well: add controls=standard to the command that made these results"
            )
        if found.incomplete:
            screen.print(f"left out, not run on all tasks: {', '.join(found.incomplete)}")
    if options.metric.endswith(("_ms", "_s", "_token")):
        screen.print(
            f"{options.metric} is of runs that came one after the other, with whatever ran beside"
            " them; --max takes it from profiles, whose methods take turns"
        )
    screen.print(
        "front: no other candidate has less drop at less cost. sure: the whole interval of the drop"
        " lies below the limit."
    )
    return 0


def _said(rival: Rival) -> str:
    one, control = rival.candidate, rival.control
    return (
        f"{one.name} at {one.budget} does not beat the control {control.name} at {control.budget},"
        f" which costs no more: drop {one.drop.value:.1f} against {control.drop.value:.1f} %, 95 %"
        f" of the difference {rival.low:+.1f} to {rival.high:+.1f}"
    )


def _front(found: Recommendation, limit: float, metric: str) -> Table:
    title = f"{found.model} on {found.device}: at most {limit:g} % below vanilla, least {metric}"
    columns = ("method", "budget", "tasks", "drop %", "95 %", "sure", metric, "95 %", "of vanilla")
    table = new_table(title, columns)
    for one in found.front:
        table.add_row(
            f"{one.name} (control)" if one.control else one.name,
            one.budget,
            str(one.tasks),
            f"{one.drop.value:.1f}",
            f"{one.drop.low:.1f} to {one.drop.high:.1f}",
            "yes" if one.drop.high <= limit else "no",
            *_cost(one.cost),
            _share(one.cost.value, found.vanilla.value),
        )
    table.add_row("vanilla", "0", "", "0.0", "", "", *_cost(found.vanilla), "100 %")
    return table


def _share(cost: float, full: float) -> str:
    """Per cent of vanilla's cost; vanilla's method costs nothing."""
    return f"{100 * cost / full:.0f} %" if full else "-"


def _cost(cost: Estimate) -> tuple[str, str]:
    """A cost and its interval, with three digits that say something."""
    digits = max(0, 2 - math.floor(math.log10(abs(cost.value)))) if cost.value else 0
    return f"{cost.value:.{digits}f}", f"{cost.low:.{digits}f} to {cost.high:.{digits}f}"
