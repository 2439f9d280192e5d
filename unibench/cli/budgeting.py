"""``recommend --max``: the settings that stay within a budget of time or memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from unibench.cli.parser import Options
from unibench.cli.results import finished, folder_of
from unibench.cli.terminal import console, new_table, print_table
from unibench.comparison.latency import Choice, code_of, missed, profiles, within


def recommend(options: Options) -> int:
    """``recommend --max prefill_ms=120 [--max peak_mib=900] --max-drop 2``: exit code 1 where no
    setting fits.
    """
    screen, limits = console(), dict(options.max)
    found = within(finished(options), profiles(folder_of(options)), limits, options.max_drop)
    said = ", ".join(f"{name} <= {most:g}" for name, most in limits.items())
    for choice in found:
        screen.print(f"{choice.inputs}")
        print_table(_table(choice, limits), keys=2)
        if choice.unprofiled:
            screen.print(f"left out, not profiled: {', '.join(choice.unprofiled)}")
        if choice.enough:
            screen.print(f"the unpruned model has {said}: nothing has to be pruned")
            continue
        if choice.best is None:
            screen.print(f"none has {said} and a drop of at most {options.max_drop:g} %")
            continue
        best = choice.best
        screen.print(f"recommended within {said}: {best.name} at {best.budget}\n")
        screen.print(code_of(best), soft_wrap=True)
    return 0 if any(choice.enough or choice.best for choice in found) else 1


def _table(choice: Choice, limits: Mapping[str, float]) -> Table:
    table = new_table(None, ("method", "budget", "tasks", "drop %", *limits, "fits"))
    for one in choice.settings:
        costs = (_cost(one.costs.get(name)) for name in limits)
        drop = f"{one.drop:.1f}"
        table.add_row(one.name, one.budget, str(one.tasks), drop, *costs, _fits(one.missed))
    full = (_cost(choice.vanilla.get(name)) for name in limits)
    table.add_row("vanilla", "0", "", "0.0", *full, _fits(missed(choice.vanilla, limits)))
    return table


def _fits(over: Sequence[str]) -> str:
    return f"no: {', '.join(over)}" if over else "yes"


def _cost(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
