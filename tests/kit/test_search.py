"""A search chooses by the calibration part alone, and the parts share no picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from unibench import UsageError
from unibench.composition import parsed
from unibench.kit.search import Guard, Split, proposed, search

GROUPS = {f"question{number}": f"picture{number // 2}" for number in range(80)}


class Chosen:
    """Proposes what a test says, as a trial of Optuna does."""

    def __init__(self, **params: Any) -> None:
        self.params = params

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        value = self.params.setdefault(name, choices[0])
        assert value in choices
        return str(value)

    def suggest_float(self, name: str, low: float, high: float, step: float) -> float:
        return float(self.params.setdefault(name, low))


def test_the_parts_share_no_picture_and_are_the_same_again() -> None:
    split = Split.of(GROUPS)
    assert split == Split.of(dict(reversed(GROUPS.items()))) or (
        {*split.test} == {*Split.of(dict(reversed(GROUPS.items()))).test}
    )
    assert not {GROUPS[name] for name in split.calibration} & {GROUPS[name] for name in split.test}
    assert {*split.calibration, *split.test} == {*GROUPS}


def test_one_picture_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="cannot be split"):
        Split.of({"a": "one", "b": "one"})


def test_the_test_part_is_asked_about_once_and_by_nobody_else() -> None:
    split, seen = Split.of(GROUPS), list[str]()

    def ask(expression: str, names: Sequence[str]) -> Mapping[str, float]:
        seen.extend(names)
        return dict.fromkeys(names, 1.0)

    guard = Guard(ask, split)
    guard.calibrate("score: norm; select: top_k")
    assert {*seen} == {*split.calibration}
    assert guard.test("score: norm; select: top_k") == 1
    with pytest.raises(UsageError, match="asked about already"):
        guard.test("score: norm; select: top_k")


def test_answers_from_outside_of_the_part_are_refused() -> None:
    split = Split.of(GROUPS)
    guard = Guard(lambda expression, names: dict.fromkeys(GROUPS, 1.0), split)
    with pytest.raises(UsageError, match="is not of the part"):
        guard.calibrate("score: norm; select: top_k")


@pytest.mark.parametrize(
    "params",
    [
        {"select": "max_min"},
        {"select": "mmr", "score": "saliency", "second score": "none", "mmr weight": 0.5},
        {"select": "top_k", "score": "attention", "second score": "norm", "first": 0.3},
        {"select": "top_k", "score": "norm", "second score": "norm"},
    ],
)
def test_what_is_proposed_fits_together(params: dict[str, Any]) -> None:
    assert parsed(proposed(Chosen(**params))).atoms


def test_the_best_on_the_calibration_part_is_found_and_tested_once() -> None:
    pytest.importorskip("optuna", reason="search is optional")
    split = Split.of(GROUPS)

    def ask(expression: str, names: Sequence[str]) -> Mapping[str, float]:
        right = "saliency" in expression and names[0] in split.calibration
        return dict.fromkeys(names, float(right))

    found = search(Guard(ask, split), trials=30)
    assert "saliency" in found.expression and found.calibration == 1 and found.test == 0
    assert len(found.trials) <= 30
