"""Whether the unpruned model scores what the paper prints."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from tests.report.results import printed
from unibench.compose import options
from unibench.report import Comparison, StandIn, filled
from unibench.reproduction import Base, bases
from unibench.reproduction.base import _cards, _causes, causes_of, wilson


def never(one: object, other: object) -> bool:
    return False


def found(name: str, frame: pd.DataFrame, standin: StandIn | None = None) -> dict[str, Base]:
    comparison: Comparison = filled(name, frame, standin or StandIn(), never)
    own = [
        one for one in bases(comparison, limited=False) if one.printed.source.startswith("table")
    ]
    return {one.benchmark: one for one in own}


def shifted(frame: pd.DataFrame, task: str, points: float) -> pd.DataFrame:
    here = (frame["task"] == task) & (frame["method"] == "vanilla")
    return frame.assign(score_100=frame["score_100"] + points * here)


def test_the_printed_scores_are_within_their_own_intervals() -> None:
    verdicts = found("idpruner_table1", printed("idpruner_table1"))
    assert verdicts["OCRBench"].verdict == "within" and verdicts["OCRBench"].n == 1000
    assert verdicts["MMBench-EN"].interval == "binomial" and verdicts["MMBench-EN"].n == 1164
    assert not [one for one in verdicts.values() if one.verdict == "missed"]


def test_a_base_outside_of_its_interval_is_missed_with_the_known_causes() -> None:
    frame = shifted(printed("idpruner_table1"), "mmbench_en", -4)
    base = found("idpruner_table1", frame)["MMBench-EN"]
    assert base.verdict == "missed"
    assert {"judge", "split", "prompt"} <= {cause.kind for cause in base.causes}
    near = shifted(printed("idpruner_table1"), "mmbench_en", -1)
    assert found("idpruner_table1", near)["MMBench-EN"].verdict == "within"


def test_a_metric_without_a_share_takes_our_own_interval_or_cannot_be_tested() -> None:
    frame = printed("idpruner_table1")
    base = found("idpruner_table1", frame)["MME"]
    assert base.verdict == "cannot be tested" and "no share of questions" in base.why
    mme = frame["task"] == "mme"
    known = frame.assign(
        low=frame["low"].where(~mme, frame["score_100"] - 2),
        high=frame["high"].where(~mme, frame["score_100"] + 2),
    )
    base = found("idpruner_table1", known)["MME"]
    assert (base.verdict, base.interval) == ("within", "bootstrap")


def test_the_version_of_the_questions_is_that_which_the_digits_fit() -> None:
    verdicts = found("uniprunebench_table6", mini(printed("uniprunebench_table6")))
    assert verdicts["MathVision"].n == 304


def mini(frame: pd.DataFrame) -> pd.DataFrame:
    """With the task that asks the 304 questions."""
    return frame.assign(task=frame["task"].replace("mathvision", "mathvision_mini"))


def test_a_stand_in_and_a_part_of_the_questions_say_nothing_about_the_base() -> None:
    frame = printed("idpruner_table1")
    for limited, standin, said in (
        (True, StandIn(), "only a part"),
        (False, StandIn(model="tiny_llava"), "model=tiny_llava stands in"),
    ):
        comparison = filled("idpruner_table1", frame, standin, never)
        verdicts = bases(comparison, limited=limited)
        assert {one.verdict for one in verdicts} == {"cannot be tested"}
        assert any(said in one.why for one in verdicts)


def test_the_models_own_card_is_asked_too() -> None:
    comparison = filled("idpruner_table1", printed("idpruner_table1"), StandIn(), never)
    cards = [one for one in bases(comparison, limited=False) if "README" in one.printed.source]
    assert {one.benchmark for one in cards} >= {"ChartQA", "TextVQA", "OCRBench"}
    assert any(one.verdict == "missed" for one in cards)  # 83.68 in the table, 87.3 on the card


def test_causes_and_cards_are_of_benchmarks_and_models_that_there_are() -> None:
    assert set(_causes()) - {"every benchmark"} <= set(options("task"))
    assert set(_cards()) <= set(options("model"))
    for entries in _cards().values():
        assert all(entry["source"] and entry["benchmark"] in options("task") for entry in entries)
    assert [cause.kind for cause in causes_of("gqa")] == ["prompt", "pixels", "checkpoint"]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_wilsons_interval_holds_its_share_and_shrinks_with_n(share: float) -> None:
    low, high = wilson(share, 100)
    assert low <= share + 1e-12 and share - 1e-12 <= high
    assert high - low > wilson(share, 10_000)[1] - wilson(share, 10_000)[0]
    assert not math.isnan(low)
