"""Averages, ratios and changes, computed again from the numbers beside them."""

from __future__ import annotations

from collections.abc import Iterator

from unibench.audit.finding import Finding
from unibench.audit.sheet import CHANGE, Sheet, half_digit
from unibench.report.average import average, best
from unibench.report.published import Column

FORMULAS = {"columns": "mean of the columns", "ratios": "mean of the ratios to vanilla"}
SLACK = 1.2  # of the rounding error: some round twice
MEAN_OF_RATIOS = 0.03  # a mean of ratios may be this far from the ratio of means
RELATIVE = "relative_pct_printed"  # metric of a score in per cent of vanilla's
SUM = "sum_printed"  # metric of a sum over the other metrics of its benchmark
SAVED = {"memory_reduction_pct": "peak_memory_gb", "latency_reduction_pct": "latency_ms"}


def averages(sheet: Sheet) -> Iterator[Finding]:
    """Lines whose average is not that of their numbers, by the formula that fits most lines of the
    table.
    """
    for column in [column for column in sheet.columns if column[0] == "avg"]:
        wrong = {formula: _wrong(sheet, column, formula) for formula in FORMULAS}
        formula, found = min(wrong.items(), key=lambda pair: len(pair[1]))
        lines = sum(column in row.values for row in sheet.rows)
        if 2 * len(found) > lines:
            told = (
                f"neither formula gives the printed averages: {len(found)} of {lines} lines differ"
                f" from the {FORMULAS[formula]}"
            )
            yield sheet.finding("average", told, list(found), [column])
            continue
        for line, computed in found.items():
            told = (
                f"printed {sheet.rows[line].values[column].text}, {FORMULAS[formula]}"
                f" {computed:.2f}"
            )
            yield sheet.finding("average", told, [line], [column])


def _wrong(sheet: Sheet, column: Column, formula: str) -> dict[int, float]:
    """Lines that do not fit, with the computed average."""
    found = {}
    for line, row in enumerate(sheet.rows):
        if column not in row.values:
            continue
        scores = sheet.known(line, sheet.scores)
        full = sheet.vanilla(line)
        against = sheet.known(full, list(scores)) if full is not None else {}
        if not scores or (
            formula == "ratios" and (len(against) < len(scores) or 0 in against.values())
        ):
            found[line] = float("nan")
            continue
        computed = average(formula, scores, against)
        unit = {one: 100 / (against[one] if formula == "ratios" else best(*one)) for one in scores}
        rounding = sum(half_digit(row.values[one].text) * unit[one] for one in scores) / len(scores)
        doubled = 2 if formula == "ratios" else 1  # vanilla is rounded as well
        if abs(computed - float(row.values[column].text)) > SLACK * (
            doubled * rounding + half_digit(row.values[column].text)
        ):
            found[line] = computed
    return found


def sums(sheet: Sheet) -> Iterator[Finding]:
    """Sums that are not those of the benchmark's other numbers in the line."""
    for line, row in enumerate(sheet.rows):
        for column in [column for column in row.values if column[1] == SUM]:
            parts = [one for one in sheet.scores if one[0] == column[0] and one in row.values]
            if len(parts) < 2:
                continue
            computed = sum(sheet.known(line, parts).values())
            rounding = sum(half_digit(row.values[one].text) for one in [*parts, column])
            if abs(computed - float(row.values[column].text)) > SLACK * rounding:
                told = f"printed {row.values[column].text}, {len(parts)} parts give {computed:g}"
                yield sheet.finding("sum", told, [line], [column])


def ratios(sheet: Sheet) -> Iterator[Finding]:
    """Shares that do not follow from the counts or costs beside them."""
    for line, row in enumerate(sheet.rows):
        full = sheet.vanilla(line)
        if full is None or full == line:
            continue
        whole = sheet.rows[full]
        if row.retention and row.kept and whole.kept:
            share = float(row.kept) / float(whole.kept)
            if abs(share - float(row.retention)) > 2 * half_digit(row.retention):
                told = f"{row.kept} of {whole.kept} tokens is {share:.4f}, printed {row.retention}"
                yield sheet.finding("ratio", told, [line], list(row.values))
        for column in row.values:
            computed = _cost_share(sheet, line, full, column)
            printed = sheet.value(line, column)
            if (
                computed is not None
                and printed is not None
                and abs(printed - computed) > MEAN_OF_RATIOS * abs(computed) + 0.1
            ):
                yield sheet.finding(
                    "ratio",
                    f"printed {printed:g} %, the numbers give {computed:.2f} %",
                    [line],
                    [column],
                )


def _cost_share(sheet: Sheet, line: int, full: int, column: Column) -> float | None:
    """A printed share of costs or of a score, computed again; None for other columns."""
    benchmark, metric = column
    if metric == RELATIVE and benchmark != "avg":
        score = next((one for one in sheet.scores if one[0] == benchmark), column)
        value, best = sheet.value(line, score), sheet.value(full, score)
        return 100 * value / best if score != column and value is not None and best else None
    of = (benchmark, SAVED.get(metric, "tflops" if metric == "flops_ratio_pct_printed" else ""))
    ours, whole = sheet.value(line, of), sheet.value(full, of)
    if ours is None or not whole:
        return None
    return 100 * (1 - ours / whole) if metric in SAVED else 100 * ours / whole


def changes(sheet: Sheet) -> Iterator[Finding]:
    """Printed changes against vanilla that are another number, or of the other sign."""
    for line, row in enumerate(sheet.rows):
        full = sheet.vanilla(line)
        for column in [column for column in row.values if column[1].endswith(CHANGE)]:
            of = next(
                (
                    score
                    for score in [*sheet.scores, *sheet.columns]
                    if score[0] == column[0] and score != column
                ),
                None,
            )
            score, whole = (
                (None, None)
                if of is None or full is None
                else (sheet.value(line, of), sheet.value(full, of))
            )
            if of is None or score is None or not whole:
                continue
            printed, computed = float(row.values[column].text), 100 * (score / whole - 1)
            rounding = (
                half_digit(row.values[column].text) + 200 * half_digit(row.values[of].text) / whole
            )
            if abs(printed - computed) <= SLACK * rounding:
                continue
            sign = abs(printed + computed) <= SLACK * rounding
            told = f"printed {printed:+g} %, {score:g} against {whole:g} is {computed:+.1f} %"
            yield sheet.finding("sign" if sign else "change", told, [line], [of, column])
