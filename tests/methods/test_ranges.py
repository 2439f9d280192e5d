"""Every number that a method takes has a range, and one outside of it is refused in one line."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from unibench import UsageError, registry
from unibench.annotations import Range
from unibench.api import build_method
from unibench.compose import compose_cells
from unibench.registry.cards import Parameter

NUMBERS = ("int", "float", "list of int", "list of float")
FIELDS = [
    (name, key)
    for name, card in registry.methods().items()
    for key, parameter in card.fields.items()
    if {*parameter.allowed.kinds} & {*NUMBERS}
]


def parameter_of(name: str, key: str) -> Parameter:
    return registry.method(name).fields[key]


def ends(limits: Range, whole: bool) -> tuple[list[float], list[float]]:
    """The outermost numbers of a range, and some beyond them."""
    inside, outside = list[float](), [math.inf]
    step = 1 if whole else 0.25
    for end, is_open, away in (
        (limits.least, limits.above, -step),
        (limits.most, limits.below, step),
    ):
        if end is not None:
            (outside if is_open else inside).append(end)
            outside.append(end + away)
    return [int(n) if whole else float(n) for n in inside], [
        int(n) if whole and math.isfinite(n) else n for n in outside
    ]


@pytest.mark.parametrize(("name", "key"), FIELDS)
def test_a_number_outside_of_its_range_is_refused_in_one_line(name: str, key: str) -> None:
    allowed = parameter_of(name, key).allowed
    assert allowed.range is not None, f"{name}.{key} declares no range"
    whole, listed = "float" not in " ".join(allowed.kinds), "list" in " ".join(allowed.kinds)
    inside, outside = ends(allowed.range, whole)

    def value(number: float) -> Any:
        return [number] if listed else number

    for number in inside:
        parameter_of(name, key).check("method." + key, value(number))
    for number in outside:
        if whole and not math.isfinite(number):
            continue  # no whole number is infinite
        with pytest.raises(UsageError) as configured:
            parameter_of(name, key).check("method." + key, value(number))
        with pytest.raises(UsageError) as built:
            build_method(name, **{key: value(number)})
        assert "\n" not in str(configured.value) and f"method.{key}=" in str(built.value)
        assert str(configured.value).endswith("wanted") and str(built.value).endswith("wanted")


@pytest.mark.parametrize(("name", "key"), FIELDS)
def test_a_default_lies_in_its_range(name: str, key: str) -> None:
    parameter = parameter_of(name, key)
    assert parameter.allowed.outside(parameter.default) is None


def test_what_divided_by_zero_is_refused_before_anything_is_loaded() -> None:
    words = ["model=tiny_qwen2_5_vl", "task=synthvqa", "method=fastvid", "method.stride=0"]
    with pytest.raises(UsageError, match=r"^method.stride=0: at least 1 wanted$"):
        compose_cells(words, sweep=False)


def test_a_range_says_itself_in_words() -> None:
    assert str(Range(1)) == "at least 1"
    assert str(Range(0, 1, above=True)) == "above 0 and at most 1"
    assert str(Range(0, 1, below=True)) == "at least 0 and below 1"
    assert str(Range()) == "a finite number"
    assert 0 not in Range(0, above=True) and math.nan not in Range() and 3 in Range(1)


def test_a_range_survives_the_cache_of_cards() -> None:
    card = registry.method("fastvid")
    again = registry.cards.from_plain(registry.cards.to_plain(card))
    assert dataclasses.asdict(again) == dataclasses.asdict(card)
