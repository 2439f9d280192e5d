"""Lines and blocks that are printed twice, and numbers that were carried from one line to
another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

from unibench.audit.finding import Finding
from unibench.audit.sheet import Sheet
from unibench.report.published import Column

LEAST = 3  # equal numbers that make a copy
PART = 0.5  # of a line's numbers, for a copy in part
SURE = 4.0  # decimal orders by which chance must be excluded, over all pairs of lines


def copies(sheet: Sheet) -> Iterator[Finding]:
    """Blocks printed twice, then single lines, then parts of lines."""
    pairs = [pair for pair in combinations(sheet.pruned, 2) if _comparable(sheet, *pair)]
    whole = [pair for pair in pairs if _identical(sheet, *pair)]
    blocks, lines = _blocks(sheet, whole)
    for first, second in blocks:
        told = (
            f"{len(second)} lines from {sheet.title(second[0])} on are those from"
            f" {sheet.title(first[0])} on, number for number"
        )
        yield sheet.finding("copied block", told, [*first, *second], sheet.scores)
    for one, other in lines:
        yield sheet.finding(
            "copied line", "the same numbers in every column", [one, other], sheet.scores
        )
    chance = {column: _chance(sheet, column, pairs) for column in sheet.scores}
    for one, other in pairs:
        equal = _equal(sheet, one, other)
        if (one, other) not in whole and _surprising(sheet, one, equal, chance, len(pairs)):
            yield sheet.finding(
                "copied part",
                f"{len(equal)} of {len(sheet.known(one, sheet.scores))} numbers are the same",
                [one, other],
                equal,
            )


def _comparable(sheet: Sheet, one: int, other: int) -> bool:
    """Variants of one method at one budget may well agree."""
    a, b = sheet.rows[one], sheet.rows[other]
    return (a.model, a.method, a.retention) != (b.model, b.method, b.retention) or (
        bool(a.kept) and a.setting == b.setting
    )


def _equal(sheet: Sheet, one: int, other: int) -> list[Column]:
    return [
        column
        for column in sheet.scores
        if (value := sheet.value(one, column)) is not None and value == sheet.value(other, column)
    ]


def _identical(sheet: Sheet, one: int, other: int) -> bool:
    both = sheet.known(one, sheet.scores).keys() | sheet.known(other, sheet.scores).keys()
    return len(both) >= LEAST and len(_equal(sheet, one, other)) == len(both)


def _blocks(
    sheet: Sheet, pairs: Sequence[tuple[int, int]]
) -> tuple[list[tuple[list[int], list[int]]], list[tuple[int, int]]]:
    """Runs of consecutive lines that repeat a run of consecutive lines, and the pairs that are
    left.
    """
    left, blocks = list(pairs), []
    for start in pairs:
        run = [start]
        while (follower := (run[-1][0] + 1, run[-1][1] + 1)) in left and follower[0] < start[1]:
            run.append(follower)
        if len(run) >= LEAST and start in left:
            blocks.append(([one for one, _ in run], [other for _, other in run]))
            left = [pair for pair in left if pair not in run]
    return blocks, left


def _chance(sheet: Sheet, column: Column, pairs: Sequence[tuple[int, int]]) -> float:
    """How often two lines agree in a column anyway."""
    both = [(sheet.value(one, column), sheet.value(other, column)) for one, other in pairs]
    both = [(a, b) for a, b in both if a is not None and b is not None]
    return (1 + sum(a == b for a, b in both)) / (2 + len(both))


def _surprising(
    sheet: Sheet, line: int, equal: Sequence[Column], chance: dict[Column, float], pairs: int
) -> bool:
    if len(equal) < max(LEAST, PART * len(sheet.known(line, sheet.scores))):
        return False
    return -sum(math.log10(chance[column]) for column in equal) - math.log10(pairs) > SURE
