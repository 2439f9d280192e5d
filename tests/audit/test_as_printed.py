"""The faults that results/published/README.md lists in the tables as UniPruneBench prints them:
found, or missed, and why.
"""

from __future__ import annotations

from functools import cache

import pytest

from unibench.audit import Finding, audit, sheets
from unibench.report.published import FOLDER

FOUND = [  # number in the list, table, rule, part of where
    ("1", 1, "copied block", "sparsevlm 0.2222"),
    ("1", 1, "rises", "sparsevlm 0.2222; avg"),
    ("1", 1, "rises", "mustdrop 0.2222; avg"),
    ("2", 1, "average", "random_pre 0.3333"),
    ("2", 1, "average", "random_pre 0.2222"),
    ("2", 1, "average", "random_pre 0.1111"),
    ("3", 1, "below random", "mmbench_cn"),
    ("3", 1, "above vanilla", "sparsevlm 0.2222; mmbench_cn"),
    ("4", 1, "impossible", "vtw 0.2222; pope"),
    ("5", 2, "average", "vanilla"),
    ("5", 2, "average", "random_pre 0.222"),
    ("5", 2, "average", "random_intra 0.111"),
    ("5", 5, "average", "vanilla"),
    ("5", 5, "disagreement", "random_intra 0.111; avg"),
    ("7", 2, "swap", "mathvision, mathvista"),
    ("7", 5, "swap", "mathvision, mathvista"),
    ("7", 6, "swap", "mathvision, mathvista"),
    ("8", 3, "apart", "mathvision"),
    ("9", 3, "copied part", "gprune 0.333, random_pre 0.333"),
    ("10", 7, "gap", "fastv 0.333"),
    ("11", 5, "apart", "mathvista"),
    ("12", 2, "above vanilla", "mia_bench"),
    ("12", 6, "below random", "mmbench_en"),
]
MISSED = [
    ("4", 1, "above vanilla", "; pope"),
    ("8", 3, "apart", "mia_bench"),
    ("8", 3, "apart", "mathvista"),
]


@cache
def findings() -> list[Finding]:
    return audit(sheets(FOLDER / "as_printed"))


def said(table: int, rule: str, where: str) -> bool:
    return any(
        (one.table, one.rule) == (f"uniprunebench_table{table}", rule) and where in one.where
        for one in findings()
    )


@pytest.mark.parametrize(("number", "table", "rule", "where"), FOUND)
def test_a_listed_fault_is_found(number: str, table: int, rule: str, where: str) -> None:
    assert said(table, rule, where)


@pytest.mark.parametrize(("number", "table", "rule", "where"), MISSED)
def test_a_fault_that_the_documentation_calls_missed_is_missed(
    number: str, table: int, rule: str, where: str
) -> None:
    assert not said(table, rule, where)


def test_every_wrong_average_is_named_and_no_other() -> None:
    named = [one.where for one in findings() if one.rule == "average"]
    assert len(named) == 8  # four Random lines of table 1, three lines of table 2, one of table 5


def test_the_corrected_tables_lose_the_swap() -> None:
    assert not [one for one in audit(sheets(FOLDER)) if one.rule == "swap"]


def test_rules_name_no_paper() -> None:
    rules = (FOLDER.parents[1] / "unibench" / "audit").glob("*.py")
    assert not [
        path
        for path in rules
        if any(
            name in path.read_text().lower()
            for name in ("uniprune", "idpruner", "trimtokenator", "table1")
        )
    ]
