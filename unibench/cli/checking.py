"""``check``: whether models keep the rules that every method relies on, and methods their own."""

from __future__ import annotations

import itertools
import sys
from importlib.metadata import version
from pathlib import Path

from rich.table import Table

from unibench.cli.parser import COMMAND, Options
from unibench.cli.terminal import console, new_table, print_table
from unibench.compose import compose_cells
from unibench.conformance import KERNELS, Outcome
from unibench.conformance import check as outcomes_of
from unibench.errors import UsageError, UsageErrors, unknown

SIGNS = {"ok": "ok", "failed": "FAILED", "left out": "-"}


def check(options: Options) -> int:
    """``check model=A,B [attn=sdpa,eager]`` or ``check method=NAME``: exit code 1 if a rule does
    not hold.
    """
    if (options.model is None) == (options.method is None):
        raise UsageError(
            f"check what? model=NAME or method=NAME, one of them; for example {COMMAND} check"
            " method=./mine.py:Mine"
        )
    if options.method is not None:
        from unibench.cli.authoring import check_method

        return check_method(options)
    if options.mistakes or options.words:
        raise UsageErrors(
            [
                *options.mistakes,
                *(UsageError(f"check model= takes no {word}") for word in options.words),
            ]
        )
    names = options.model.split(",")
    kernels = options.attn.split(",")
    for kernel in kernels:
        if kernel not in KERNELS:
            raise unknown("attention implementation to check", kernel, KERNELS)
    specs = [compose_cells([f"model={name}"], sweep=False)[0].model for name in names]
    found: list[Outcome] = []
    screen, said = console(), set[str]()
    for spec, kernel in itertools.product(specs, kernels):
        for one in outcomes_of(spec, kernel):
            found.append(one)
            line = f"{one.model} {one.kernel}: {one.reason}"
            if one.verdict != "ok" and line not in said:
                said.add(line)
                screen.print(f"{one.model} {one.kernel} {one.rule}: {one.verdict}: {one.reason}")
                sys.stdout.flush()  # a rule takes seconds
    print_table(_table(found))
    count = sum(one.verdict == "ok" for one in found)
    failed = sum(one.verdict == "failed" for one in found)
    screen.print(f"{count} rules hold, {failed} do not")
    if options.to is not None:
        Path(options.to).expanduser().write_text(_page(found, options.given), encoding="utf-8")
    return int(failed > 0)


def _page(outcomes: list[Outcome], words: list[str]) -> str:
    """The table and the reasons, in Markdown."""
    rules = list(dict.fromkeys(one.rule for one in outcomes))
    lines = [
        "# Conformance",
        "",
        f"`{COMMAND} check {' '.join(words)}`: random weights, reduced size; transformers"
        f" {version('transformers')}, torch {version('torch')}. - is left out, for reasons below.",
        "",
        f"| model | family | kernel | {' | '.join(rules)} |",
        "|---" * (len(rules) + 3) + "|",
    ]
    for model, kernel in dict.fromkeys((one.model, one.kernel) for one in outcomes):
        line = [one for one in outcomes if (one.model, one.kernel) == (model, kernel)]
        signs = " | ".join(SIGNS[one.verdict] for one in line)
        lines.append(f"| {model} | {line[0].family} | {kernel} | {signs} |")
    held = dict.fromkeys(dict.fromkeys(one.family for one in outcomes), 0)
    for one in outcomes:
        held[one.family] += one.verdict == "ok"
    lines += ["", "Rules that hold, by family: " + ", ".join(f"{f} {n}" for f, n in held.items())]
    reasons: dict[str, None] = {}
    for one in outcomes:
        if one.verdict != "ok":
            reasons[f"- {one.model} {one.kernel}, {one.rule}: {one.reason}"] = None
    return "\n".join([*lines, "", *reasons, ""])


def _table(outcomes: list[Outcome]) -> Table:
    """A line for each model and kernel, a column for each rule."""
    rules = list(dict.fromkeys(one.rule for one in outcomes))
    table = new_table("random weights, reduced size", ("model", "family", "kernel", *rules, "s"))
    for model, kernel in dict.fromkeys((one.model, one.kernel) for one in outcomes):
        line = [one for one in outcomes if (one.model, one.kernel) == (model, kernel)]
        signs = {one.rule: SIGNS[one.verdict] for one in line}
        seconds = sum(one.seconds for one in line)
        table.add_row(
            model, line[0].family, kernel, *(signs[rule] for rule in rules), f"{seconds:.0f}"
        )
    return table
