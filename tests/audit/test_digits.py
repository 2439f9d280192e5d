"""Impossible shares: in the papers' tables, and put into tables that are made up."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from unibench.audit import RULES, Finding, Sheet, audit, fitted, folded, known, sheets
from unibench.audit.digits import Fitted, granularity, origins, two_readers
from unibench.cli.main import main
from unibench.paths import PACKAGE
from unibench.report.published import FOLDER, Row, Value

ROOT = FOLDER.parents[1]
BASELINES = ("tome", "fastv", "sparsevlm", "pyramiddrop", "visionzip")


@cache
def published() -> tuple[Sheet, ...]:
    return tuple(sheets(FOLDER))


@cache
def columns() -> tuple[Fitted, ...]:
    return tuple(fitted(published()))


@cache
def findings() -> tuple[Finding, ...]:
    return tuple(granularity(published()))


def column(table: str, benchmark: str) -> Fitted:
    return next(one for one in columns() if one.sheet.name == table and one.column[0] == benchmark)


def line(method: str, text: str, retention: str = "0.5", benchmark: str = "ocrbench") -> Row:
    values = {(benchmark, "acc"): Value(text)}
    return Row("m", method, "", retention, "", (), "LMMs-Eval", values)


def sheet(*rows: Row) -> Sheet:
    return Sheet("made_up", "s", rows)


def test_baselines_of_trimtokenator_fit_as_chance_has_it_and_the_others_throughout() -> None:
    tables = [f"trimtokenator_table{k}" for k in (1, 2, 3)]
    methods = origins([one for one in columns() if one.sheet.name in tables])
    odd = [one for one in methods if one.method in BASELINES]
    rest = [one for one in methods if one.method not in BASELINES]
    assert (sum(one.fitting for one in odd), sum(one.cells for one in odd)) == (13, 99)
    assert sum(one.expected for one in odd) == pytest.approx(15, abs=0.5)
    assert {one.method for one in rest} == {"vanilla", "divprune", "trimtokenator"}
    assert (sum(one.fitting for one in rest), sum(one.cells for one in rest)) == (63, 63)


def test_the_lines_from_elsewhere_are_named_from_the_numbers_alone() -> None:
    (one,) = [one for one in findings() if one.rule == "foreign lines"]
    assert one.where == ", ".join(sorted(BASELINES))
    assert "13 of 99" in one.told
    assert "63 of 63" in one.told


def test_a_share_of_a_thousand_questions_has_one_digit() -> None:
    (one,) = [
        one for one in findings() if one.table == "trimtokenator_table1" and "ocrbench" in one.where
    ]
    assert one.rule == "digits"
    assert "1,000 questions" in one.told
    assert "29.19" in one.told


def test_mathvision_lies_on_304_questions_but_for_the_pairs_of_methods() -> None:
    alone = [column(f"uniprunebench_table{k}", "mathvision") for k in (2, 6)]
    assert {one.version.n for one in alone} == {304}
    assert [(one.count.fitting, one.count.cells) for one in alone] == [(16, 16), (16, 16)]
    five = column("uniprunebench_table5", "mathvision")
    sound, odd = five.groups
    assert (len(five.fitting(sound)), len(five.fitting(odd))) == (6, 0)
    assert {five.sheet.rows[line].category for line in odd} == {"two_stage"}
    assert column("uniprunebench_table3", "mathvision").version.n == 3040


def test_each_paper_counts_its_own_questions_of_mmbench() -> None:
    assert column("uniprunebench_table6", "mmbench_en").version.n == 1155
    for table in ("idpruner_table1", "idpruner_table5", "trimtokenator_table1", "stp_table1"):
        assert column(table, "mmbench_en").version.n == 1164


def test_exchanged_headings_are_seen_in_the_digits() -> None:
    printed = list(granularity(sheets(FOLDER / "as_printed")))
    told = [one.told for one in printed if one.where.endswith("; mathvista")]
    assert any("they fit 304 questions, those of mathvision" in text for text in told)


def test_lines_with_and_without_a_judge_are_told_apart() -> None:
    first = next(one for one in published() if one.name == "uniprunebench_table1")
    found = list(two_readers(first))
    assert found
    assert {one.where.partition("; ")[2] for one in found} == {"mmbench_cn"}
    others = [one for table in published() if table is not first for one in two_readers(table)]
    assert not others


def test_a_column_of_possible_shares_has_no_finding() -> None:
    rows = [line("vanilla", "81.20", "1"), line("a", "74.30"), line("b", "70.10")]
    assert not list(granularity([sheet(*rows)]))


def test_one_misprint_names_its_line_and_no_other() -> None:
    rows = [line("vanilla", "81.20", "1"), line("a", "74.30"), line("b", "70.13")]
    (one,) = granularity([sheet(*rows)])
    assert one.cells == {(2, "ocrbench", "acc")}


def test_a_column_of_another_benchmark_is_recognised() -> None:
    texts = [f"{100 * k / 304:.2f}" for k in (61, 75, 83, 90, 104, 117)]
    rows = [line(f"m{place}", text) for place, text in enumerate(texts)]
    (one,) = granularity([sheet(*rows)])
    assert "they fit 304 questions, those of mathvision" in one.told


def test_means_over_runs_are_recognised() -> None:
    texts = [f"{k / 20:.2f}" for k in (1001, 1203, 1355, 1407, 1599, 1111, 1733)]
    (one,) = granularity([sheet(*(line(f"m{k}", text) for k, text in enumerate(texts)))])
    assert "means over 2 runs" in one.told


def test_unknown_benchmarks_and_scores_that_are_no_shares_are_left_alone() -> None:
    rows = [line("a", "12.345", benchmark=name) for name in ("coco_cap", "nothing", "mme")]
    assert not fitted([sheet(row) for row in rows])


def test_sums_of_mme_come_in_steps_below_any_printed_digit() -> None:
    assert 0 < known()["mme", "perception"].step < 0.005


def test_every_number_of_questions_has_a_source_and_agrees_with_the_card_it_names() -> None:
    for questions in known().values():
        assert bool(questions.versions) != bool(questions.untestable)
        for version in questions.versions:
            assert version.source
            if card := re.search(r"card (\w+)", version.source):
                text = (ROOT / "configs" / "task" / f"{card[1]}.yaml").read_text()
                task = yaml.safe_load(text)
                harnesses = [task.get(name) or {} for name in ("vlmevalkit", "lmms_eval")]
                sizes = {one.get("size") for one in harnesses}
                # VLMEvalKit and lmms-eval store Vinoground's four questions on each pair apart.
                assert version.n in sizes or 4 * version.n in sizes, version


def test_sums_and_relative_columns_are_computed_again() -> None:
    def row(method: str, *numbers: str) -> Row:
        names = ("perception", "cognition", "sum_printed", "relative_pct_printed")
        values = {("mme", name): Value(text) for name, text in zip(names, numbers, strict=True)}
        return Row("m", method, "", "1", "", (), "h", values)

    rows = (
        row("vanilla", "1500.0", "300.0", "1800.0", "100.0"),
        row("a", "1400", "250", "1660", "80"),
    )
    found = {(one.rule, one.told) for one in audit([sheet(*rows)])}
    assert ("sum", "printed 1660, 2 parts give 1650") in found
    assert ("ratio", "printed 80 %, the numbers give 93.33 %") in found


def test_equal_findings_are_folded_and_the_gravest_comes_first() -> None:
    def finding(rule: str, table: str, where: str) -> Finding:
        return Finding(rule, table, where, "the same", frozenset())

    groups = folded(
        [
            finding("rises", "one", "a; x"),
            finding("average", "one", "a; avg"),
            finding("average", "one", "b; avg"),
            finding("average", "two", "a; avg"),
            finding("average", "two", "c; avg"),
        ]
    )
    assert [(one.first.rule, one.where) for one in groups] == [
        ("average", "a; avg / b; avg"), ("rises", "a; x"), ("average", "c; avg"),
    ]  # fmt: skip
    assert groups[0].told == "the same (2 times); also in two"


def test_every_rule_is_explained_on_the_page() -> None:
    page = (ROOT / "docs" / "published.md").read_text()
    for name in RULES:
        assert re.search(rf"\b{name}\b", page), name


@pytest.mark.parametrize(("view", "start"), [("findings", "### "), ("columns", "### ")])
def test_the_stored_page_is_what_the_command_prints(
    view: str, start: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["audit", "results/published", f"view={view}"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(start)
    assert printed in (ROOT / "results" / "audit.md").read_text()
    assert Path(PACKAGE, "audit", "questions.yaml").exists()
