"""Scores that come in steps too coarse for the benchmark: they were measured on a part of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from unibench.audit.finding import Finding
from unibench.audit.sheet import Sheet, half_digit, top
from unibench.report.published import Column

SIZES = (20, 25, 40, 50, 64, 80, 100, 125, 128, 150, 200, 250, 256, 300, 400, 500)
SURE = 1e-5
SLACK = 1e-9


def subsets(sheet: Sheet) -> Iterator[Finding]:
    """Columns whose pruned lines, but not vanilla, are whole parts of a small number of samples."""
    for column in sheet.scores:
        if top(column) != 100.0:
            continue
        found = _part(sheet, sheet.pruned, column)
        places = [sheet.pruned] if found else [lines for _, lines in sheet.budgets]
        for lines in places:
            if size := found or _part(sheet, lines, column):
                told = f"every pruned score is a whole part of {size} samples, vanilla's is not"
                yield sheet.finding("subset", told, lines, [column])


def _part(sheet: Sheet, lines: Sequence[int], column: Column) -> int | None:
    """The smallest number of samples that explains the lines better than chance, but not
    vanilla.
    """
    full = sheet.vanilla(lines[0]) if lines else None
    vanilla = None if full is None else sheet.rows[full].values.get(column)
    texts = [
        sheet.rows[line].values[column].text for line in lines if column in sheet.rows[line].values
    ]
    if vanilla is None or not texts:
        return None
    half = half_digit(
        max((text for text in [*texts, vanilla.text]), key=lambda text: len(text.partition(".")[2]))
    )
    distinct = {float(text) for text in texts}
    for size in SIZES:
        share = min(
            1.0, 2 * half * size / 100
        )  # of all numbers that look like parts of so many samples
        if share ** len(distinct) * len(SIZES) > SURE:
            continue
        if all(_fits(value, size, half) for value in distinct) and not _fits(
            float(vanilla.text), size, half
        ):
            return size
    return None


def _fits(value: float, size: int, half: float) -> bool:
    nearest = 100 * round(value * size / 100) / size
    return math.isclose(value, nearest, abs_tol=half + SLACK, rel_tol=0)
