"""Comparisons by ability, and the samples that a method wins and loses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stats._cells import finished
from unibench.cli import main
from unibench.stats.several import holm

N = 40


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DivPrune loses every fourth sample, which all test reading, and wins the last one; FastV
    loses the first five.
    """
    folder = tmp_path_factory.mktemp("results")
    full = [1.0] * (N - 1) + [0.0]
    finished(folder, full, "method=vanilla")
    divprune = [float(number % 4 != 0) for number in range(N)]
    finished(folder, divprune, "method=divprune", "ratio=0.889")
    finished(folder, [0.0] * 5 + full[5:], "method=fastv", "ratio=0.889")
    return folder


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_sample_lost_and_won_is_listed_with_both_answers(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(capsys, "lost", "vanilla", "divprune", f"out={out}")
    lost = [one["id"] for one in found if one["change"] == "lost"]
    assert lost == [f"s{number:04d}" for number in range(0, N, 4)]
    assert [one["id"] for one in found if one["change"] == "won"] == [f"s{N - 1:04d}"]
    first = found[0]
    assert (first["first"], first["second"], first["budget"]) == ("vanilla", "divprune", "0.889")
    assert (first["first_answer"], first["second_answer"]) == ("Yes.", "no")
    assert (first["first_score"], first["second_score"]) == (1.0, 0.0)
    assert first.keys() >= {"question", "truth", "ability", "group", "model", "task"}


def test_the_list_for_people_names_as_many(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lost", "vanilla", "divprune", f"out={out}"]) == 0
    text = capsys.readouterr().out
    assert text.count("    truth: ") == N // 4 + 1
    assert text.splitlines()[-1] == "10 lost, 1 won by divprune"


def test_samples_of_one_ability_are_listed_alone(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(capsys, "lost", "vanilla", "divprune", f"out={out}", "ability=counting")
    assert [one["id"] for one in found] == [f"s{N - 1:04d}"]


def test_each_ability_is_tested_under_one_correction(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compare", "vanilla", "divprune", "fastv", f"out={out}")
    found = printed(capsys, *words, "by=ability")
    assert len(found) == 3 * 2
    assert [one["p_holm"] for one in found] == pytest.approx(holm([one["p"] for one in found]))
    (reading,) = [
        one
        for one in found
        if (one["first"], one["second"], one["ability"]) == ("vanilla", "divprune", "reading")
    ]
    assert (reading["n"], reading["lost"], reading["won"]) == (20, 10, 0)
    assert reading["second_flips"] == {"lost": 0.5, "won": 0.0}
    (alone, *others) = printed(capsys, *words, "ability=reading")
    assert len(others) == 2
    assert alone["p"] == reading["p"] and alone["p_holm"] <= reading["p_holm"]
    whole = printed(capsys, *words)
    assert {one["ability"] for one in whole} == {"all"}


def test_an_ability_that_no_sample_has_is_refused(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "vanilla", "divprune", f"out={out}", "ability=countin"]) == 2
    assert "unknown ability 'countin'. Did you mean counting?" in capsys.readouterr().err


def test_the_table_by_ability_names_them(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "vanilla", "divprune", f"out={out}", "by=ability"]) == 0
    table = capsys.readouterr().out
    assert "counting" in table and "reading" in table and "corrected for the 2" in table
