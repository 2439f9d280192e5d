"""Odd forms of answers score in unibench what they score in the harness itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import forms, standins
from tests.harness.official import ROOT, evaluate
from tests.harness.running import card, compared

pytestmark = pytest.mark.slow
# one or two tasks of each kind of scoring
TASKS = {
    "vlmevalkit": (
        *("pope", "mme", "hallusionbench"),  # yes or no: alone, in pairs, in groups
        *("mmstar", "mmbench_en", "scienceqa", "mmmu"),  # choice: alone, rotated, with open ones
        *("ocrbench", "textvqa", "chartqa", "docvqa", "gqa"),  # text inside, ten people, numbers
        "vizwiz",
    ),
    "lmms_eval": (
        *("pope", "mme"),
        *("mmstar", "mmbench_en", "scienceqa", "mmmu", "seedbench"),
        *("ocrbench", "textvqa", "chartqa", "docvqa", "gqa"),
        "vqav2",
    ),
}
Scores = dict[str, list[dict[str, float]]]


def names(harness: str) -> dict[str, str]:
    """Official names by task."""
    sides = {task: card(task, harness) for task in TASKS[harness]}
    return {task: side.name for task, side in sides.items() if side is not None}


def in_unibench(
    harness: str, tables: Path, sets: dict[str, list[dict[str, str]]], work: Path
) -> Scores:
    work.mkdir()
    job = {"harness": harness, "tables": str(tables), "sets": sets}
    (work / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "tests.harness.forms", str(work / "job.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    found: Scores = json.loads((work / "scores.json").read_text())
    return found


def in_harness(
    harness: str, tables: Path, sets: dict[str, list[dict[str, str]]], work: Path, form: str
) -> Scores:
    work.mkdir()
    given = {names(harness)[task]: answers for task, answers in sets.items()}
    scores = evaluate(harness, tables, given, work, form).scores
    return {task: scores[name] for task, name in names(harness).items()}


def different(
    harness: str, mine: Scores, own: Scores
) -> dict[tuple[str, int], dict[str, tuple[float, float]]]:
    """By task and set of answers, the numbers that are not equal."""
    found = {}
    for task, sets in own.items():
        side = card(task, harness)
        for number, scores in enumerate(sets):
            again = mine[task][number]
            odd = {
                path: (again[path], scores[path])
                for path in compared(side, again, scores)
                if again[path] != pytest.approx(scores[path], rel=1e-9, abs=1e-9)
            }
            if odd:
                found[task, number] = odd
    return found


@pytest.mark.parametrize("harness", tuple(TASKS))
def test_odd_forms_of_answers_score_what_they_score_in_the_harness(
    harness: str, tmp_path: Path
) -> None:
    assert len(set(forms.FORMS)) == 36
    tables, official = tmp_path / "tables", names(harness)
    standins.write(tables, harness, official.values(), forms.SIZE)
    sets = {task: forms.made(harness, name, tables) for task, name in official.items()}
    mine = in_unibench(harness, tables, sets, tmp_path / "unibench")
    own = in_harness(harness, tables, sets, tmp_path / "harness", "tsv")
    assert different(harness, mine, own) == {}
    if harness == "vlmevalkit":
        # its command writes a sheet of Excel, unibench has it write text: the one difference
        own = in_harness(harness, tables, sets, tmp_path / "xlsx", "xlsx")
        odd = {number for _, number in different(harness, mine, own)}
        assert odd == {forms.SETS.index(forms.SHEET)}
