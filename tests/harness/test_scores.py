"""Every score of the harnesses is what its definition gives on the raw answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import made_up, scoring, standins
from tests.harness.official import Official, evaluate

SIZE = 26  # two rounds of the made-up forms
CAPTIONS = ("coco2017_cap_val", "nocaps_val", "flickr30k_test")
JUDGED_ONLY = (
    "hallusion_bench_image",
    "mmbench_cn_dev",
    "mathvista_testmini_format",
    "mia_bench",
)  # a judge decides each score
MISSING = ("mathvision_test",)  # needs latex2sympy2
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "vlmevalkit": (),
    "lmms_eval": (*CAPTIONS, *JUDGED_ONLY, *MISSING),
}
NAMES = {
    harness: tuple(
        name for name in names if name not in (*LEFT_OUT[harness], *standins.OF_PAPERS[harness])
    )
    for harness, names in standins.NAMES.items()
}


def both(
    harness: str, names: tuple[str, ...], folder: Path
) -> tuple[Official, dict[str, dict[str, float]]]:
    """The harness's scores of made-up answers and ours."""
    tables, work = folder / "tables", folder / "work"
    work.mkdir()
    standins.write(tables, harness, names, SIZE)
    answers = {name: made_up.answers(harness, name, tables) for name in names}
    replies = {
        name: {sample: made_up.verdict(answer) for sample, answer in given.items()}
        for name, given in answers.items()
    }
    official = evaluate(harness, tables, {name: [given] for name, given in answers.items()}, work)
    return official, {
        name: scoring.score(harness, name, tables, answers[name], replies[name]) for name in names
    }


def assert_same(official: Official, ours: dict[str, dict[str, float]]) -> None:
    for name, scores in ours.items():
        assert scores, name
        (found,) = official.scores[name]
        assert {path: found.get(path) for path in scores} == pytest.approx(
            scores, rel=1e-9, abs=1e-9
        ), name


@pytest.mark.slow
@pytest.mark.parametrize("harness", tuple(NAMES))
def test_scores_are_what_the_definitions_give(harness: str, tmp_path: Path) -> None:
    official, ours = both(harness, NAMES[harness], tmp_path)
    assert len(ours) >= 20
    assert_same(official, ours)


@pytest.mark.slow
@pytest.mark.java
def test_caption_scores_are_what_the_definitions_give(tmp_path: Path) -> None:
    official, ours = both("lmms_eval", CAPTIONS, tmp_path)
    assert_same(official, ours)


@pytest.mark.slow
def test_one_evaluation_of_ocrbench_adds_nothing_to_the_next(tmp_path: Path) -> None:
    """lmms-eval adds the points of all evaluations of a task to one table."""
    tables, work = tmp_path / "tables", tmp_path / "work"
    work.mkdir()
    standins.write(tables, "lmms_eval", ["ocrbench"], 9)
    right, wrong = (
        made_up.answers("lmms_eval", "ocrbench", tables, [form]) for form in ("{right}", "{other}")
    )
    found = evaluate("lmms_eval", tables, {"ocrbench": [right, right, wrong, right]}, work)
    points = [score["ocrbench_accuracy"] for score in found.scores["ocrbench"]]
    assert points == [9 / 1000, 9 / 1000, 0, 9 / 1000]
