"""Numbers that cannot be, or that do not go with the others of their line and column."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from unibench.audit.finding import Finding
from unibench.audit.sheet import Sheet, top
from unibench.report.published import Column

ABOVE = 1.10  # a pruned model this much better than the unpruned one
RISE = 1.15  # or than itself with more tokens
BELOW_RANDOM = 0.70
CLIFF = 1.8
APART = 1.5
USUAL = 0.8  # of the lines have a number in a column
FEW = 3  # lines that make a group


def impossible(sheet: Sheet) -> Iterator[Finding]:
    """Scores outside of their scale, and scores of exactly nothing."""
    for line in range(len(sheet.rows)):
        for column, value in sheet.known(line, sheet.scores).items():
            if not 0 <= value <= top(column):
                yield sheet.finding(
                    "impossible",
                    f"{value:g} lies outside of 0 to {top(column):g}",
                    [line],
                    [column],
                )
            elif value == 0:
                yield sheet.finding(
                    "impossible",
                    "exactly 0: no answer was read, or the run failed",
                    [line],
                    [column],
                )


def above_vanilla(sheet: Sheet) -> Iterator[Finding]:
    """Columns in which pruned models are far better than the unpruned one: it, or they, ran in
    another way.
    """
    for column in sheet.scores:
        better = {
            line: share
            for line in sheet.pruned
            if (share := _share(sheet, line, column)) is not None and share > ABOVE
        }
        if better:
            told = f"up to {100 * max(better.values()) - 100:.1f} % above vanilla"
            yield sheet.finding("above vanilla", told, list(better), [column])


def _share(sheet: Sheet, line: int, column: Column) -> float | None:
    full = sheet.vanilla(line)
    value, whole = sheet.value(line, column), None if full is None else sheet.value(full, column)
    return value / whole if value is not None and whole else None


def rises(sheet: Sheet) -> Iterator[Finding]:
    """Methods that get better with fewer tokens: much in one column, or at all on average."""
    columns = [column for column in sheet.columns if column in sheet.scores or column[0] == "avg"]
    for line in sheet.pruned:
        more = [i for i in sheet.pruned if _more(sheet, i, line)]
        for column in columns:
            values = [value for i in more if (value := sheet.value(i, column)) is not None]
            value = sheet.value(line, column)
            limit = 1.0 if column[0] == "avg" else RISE
            if values and value is not None and min(values) > 0 and value > limit * min(values):
                yield sheet.finding(
                    "rises",
                    f"{value:g} with fewer tokens, {min(values):g} with more",
                    [line],
                    [column],
                )


def _more(sheet: Sheet, one: int, other: int) -> bool:
    """Whether a line is another one with more tokens."""
    a, b = sheet.rows[one], sheet.rows[other]
    same = (
        (a.model, a.method, a.setting) == (b.model, b.method, b.setting)
        and bool(a.retention)
        and bool(b.retention)
    )
    return same and float(a.retention) > float(b.retention)


def below_random(sheet: Sheet) -> Iterator[Finding]:
    """Single columns in which a method that equals random pruning elsewhere falls far below it: a
    fault of format.
    """
    for column in sheet.scores:
        found = [
            line
            for _, lines in sheet.budgets
            for line in lines
            if _collapsed(sheet, line, lines, column)
        ]
        if found:
            yield sheet.finding(
                "below random", "far below random pruning here alone", found, [column]
            )


def _collapsed(sheet: Sheet, line: int, lines: list[int], column: Column) -> bool:
    drawn = [i for i in lines if sheet.rows[i].category == "random" and i != line]
    if not drawn:
        return False
    shares = {
        one: value / best
        for one, value in sheet.known(line, sheet.scores).items()
        if (best := _best(sheet, drawn, one))
    }
    elsewhere = [share for one, share in shares.items() if one != column]
    return (
        column in shares
        and shares[column] < BELOW_RANDOM
        and bool(elsewhere)
        and median(elsewhere) > 0.95
    )


def _best(sheet: Sheet, lines: list[int], column: Column) -> float:
    return max(
        (value for line in lines if (value := sheet.value(line, column)) is not None), default=0.0
    )


def cliffs(sheet: Sheet) -> Iterator[Finding]:
    """Columns in which vanilla, or a whole group of methods, stands apart from all others at any
    budget.
    """
    for column in sheet.scores:
        yield from _vanilla_apart(sheet, column)
        for _, lines in sheet.budgets:
            yield from _group_apart(sheet, lines, column)


def _vanilla_apart(sheet: Sheet, column: Column) -> Iterator[Finding]:
    shares = {
        line: share for line in sheet.pruned if (share := _share(sheet, line, column)) is not None
    }
    budgets = {sheet.rows[line].retention for line in shares}
    if (
        len(shares) >= FEW
        and len(budgets) > 1
        and max(shares.values()) * CLIFF < 1
        and max(shares.values()) < 1.5 * min(shares.values())
    ):
        told = (
            f"every pruned line has {100 * min(shares.values()):.0f} to"
            f" {100 * max(shares.values()):.0f} % of vanilla, whatever its budget"
        )
        yield sheet.finding("apart", told, list(shares), [column])


def _group_apart(sheet: Sheet, lines: list[int], column: Column) -> Iterator[Finding]:
    values = {line: value for line in lines if (value := sheet.value(line, column)) is not None}
    for group in dict.fromkeys(sheet.rows[line].category for line in lines):
        mine = {line: value for line, value in values.items() if sheet.rows[line].category == group}
        others = [value for line, value in values.items() if line not in mine]
        if (
            group
            and min(len(mine), len(others)) >= FEW
            and max(mine.values()) * APART < min(others)
        ):
            told = (
                f"group {group}: {min(mine.values()):g} to {max(mine.values()):g}; the others:"
                f" {min(others):g} to {max(others):g}"
            )
            yield sheet.finding("apart", told, list(mine), [column])


def gaps(sheet: Sheet) -> Iterator[Finding]:
    """Methods that lack a budget which the table has, or a number that the other lines have."""
    usual = [
        column
        for column in sheet.columns
        if sum(column in row.values for row in sheet.rows) > USUAL * len(sheet.rows)
    ]
    methods: dict[tuple[object, ...], list[int]] = {}
    for line in sheet.pruned:
        row = sheet.rows[line]
        methods.setdefault((row.model, row.method, row.setting), []).append(line)
        if lost := [column for column in usual if column not in row.values]:
            yield sheet.finding(
                "gap", "numbers are missing that the other lines have", [line], lost
            )
    for (model, *_), lines in methods.items():
        have = {sheet.rows[line].retention for line in lines}
        if absent := [
            share for (other, share), _ in sheet.budgets if other == model and share not in have
        ]:
            yield sheet.finding(
                "gap", f"no line of this method at {', '.join(absent)}", lines, sheet.columns
            )
