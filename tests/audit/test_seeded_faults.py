"""Faults put into clean tables are found; clean tables raise no alarm."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.audit.faults import Fault, faults
from unibench.audit import Finding, Sheet, audit, sheet_of
from unibench.report.published import FOLDER, read

CLEAN = (
    [f"idpruner_table{k}" for k in (1, 2, 3, 5, 6, 7)]
    + [f"trimtokenator_table{k}" for k in (1, 2, 3, 7)]
    + ["stp_table1"]
)


def clean() -> list[Sheet]:
    """Tables in which results/published/README.md names no fault but shares that no number of
    questions gives, less a column with one likely misprint.
    """
    frames = {name: read(FOLDER / f"{name}.csv") for name in CLEAN}
    suspect = {
        name: set(frame.loc[frame["note"].str.contains("suspect"), "benchmark"])
        for name, frame in frames.items()
    }
    return [
        sheet_of(name, frame[~frame["benchmark"].isin(suspect[name])])
        for name, frame in frames.items()
    ]


def says(one: Finding) -> tuple[str, str, str]:
    """A finding without its numbers, which a fault elsewhere in the source may change."""
    return one.rule, one.table, one.where


@cache
def standing() -> frozenset[tuple[str, str, str]]:
    """What the audit says of the untouched tables: impossible shares."""
    return frozenset(says(one) for one in audit(clean()))


def found(fault: Fault, tables: list[Sheet]) -> tuple[bool, list[Finding]]:
    """Whether the audit finds a fault, and its new findings on other lines."""
    changed = [fault.sheet if table.name == fault.sheet.name else table for table in tables]
    alarms = [one for one in audit(changed) if says(one) not in standing()]
    lines = {line for line, _, _ in fault.cells}
    own = [
        one
        for one in alarms
        if one.table == fault.sheet.name and lines & {line for line, _, _ in one.cells}
    ]
    return any(one.rule in fault.rules and one.cells & fault.cells for one in own), [
        one for one in alarms if one not in own
    ]


def measured(number: int) -> tuple[Counter[str], Counter[str], int, int]:
    """Faults and faults found by kind, findings elsewhere, and clean numbers looked at."""
    tables = clean()
    put, seen, false, numbers = Counter[str](), Counter[str](), 0, 0
    for fault in faults(tables, number):
        caught, elsewhere = found(fault, tables)
        put[fault.kind] += 1
        seen[fault.kind] += caught
        false += len(elsewhere)
        numbers += sum(len(row.values) for table in tables for row in table.rows) - len(fault.cells)
    return put, seen, false, numbers


def held(put: Counter[str], seen: Counter[str], false: int, numbers: int) -> None:
    print(dict(put), dict(seen), f"{false} false alarms in {numbers} numbers")
    assert len(put) == 8
    assert sum(seen.values()) >= 0.9 * sum(put.values()), (put, seen)
    assert 1000 * false <= numbers


def test_clean_tables_raise_at_most_one_alarm_in_a_thousand_numbers() -> None:
    tables = clean()
    numbers = sum(len(row.values) for table in tables for row in table.rows)
    assert numbers > 1500
    shares = ("digits", "foreign lines")
    assert len([one for one in audit(tables) if one.rule not in shares]) <= numbers / 1000


def test_impossible_shares_in_clean_tables_are_those_that_the_readme_names() -> None:
    named = {(one.table, one.rule) for one in audit(clean())}
    tables = [f"trimtokenator_table{k}" for k in (1, 2, 3)] + ["stp_table1"]
    assert named == {(name, "digits") for name in tables} | {
        ("trimtokenator_table1", "foreign lines")
    }


def test_faults_of_eight_kinds_are_found() -> None:
    held(*measured(16))


@pytest.mark.slow
def test_three_hundred_faults_of_eight_kinds_are_found() -> None:
    held(*measured(300))
