"""Every door keeps the same tokens and gives the same answer: library, command line, profile, the
harnesses' child, and a harness's own model object.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.doors._doors import (
    DOORS,
    FAMILIES,
    RUNS,
    House,
    Kept,
    again,
    command_line,
    harness_object,
    library,
    open_house,
    options_of,
)
from tests.methods._contexts import FORMS, METHODS, VIDEO_ONLY
from unibench import UsageError

NAMES = (*METHODS, *FORMS)
slow = [pytest.mark.slow]
# by default one that cuts inside Qwen, and the one that reads a CLIP on LLaVA; the others are in
# the full run
QUICK = {
    "qwen2_5_vl": ("sparsevlm",),
    "llava": ("cdpruner",),
}

# a draw depends on the sample's name, and the prompts of a profile have none
DRAWN = ("random_pre", "random_intra", "random_like", "dpp[random]", "zoo_prune", "zoo_prune[rank]")


def _product() -> list[object]:
    """Method x family x door; a few methods on tiny Qwen and LLaVA by default."""
    cases = []
    for family in FAMILIES:
        for name in NAMES:
            marks = [] if name in QUICK.get(family, ()) else [pytest.mark.slow]
            cases.append(pytest.param(family, name, marks=marks, id=f"{name}-{family}"))
    return cases


def _runs() -> list[object]:
    """Wrappers and positions; both at once on tiny LLaVA by default."""
    quick = ("llava", "visionzip positions=centre")
    return [
        pytest.param(family, name, marks=[] if (family, name) == quick else slow)
        for family in ("llava", "qwen2_5_vl")
        for name in RUNS
    ]


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Each family's checkpoint, made at its first use."""
    return cache(lambda family: open_house(family, tmp_path_factory.mktemp(family)))


@cache
def told(house: House, quick: bool) -> dict[str, list[Kept]]:
    """What the command line kept, of the quick or the other methods that the model can serve."""
    often = QUICK.get(house.family, ())
    names = [name for name in NAMES if (name in often) == quick]
    return command_line(house, [name for name in names if _refusal(house, name) is None])


@cache
def _refusal(house: House, name: str) -> str | None:
    """Why the command line refuses a method on this model, or on pictures."""
    if options_of(name)[0] in VIDEO_ONLY:
        return "it wants videos"
    try:
        house.cell(name)
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("family", "name"), _product())
def test_every_door_keeps_the_same_tokens(houses: object, family: str, name: str) -> None:
    house: House = houses(family)  # type: ignore[operator]
    if (reason := _refusal(house, name)) is not None:
        with pytest.raises(UsageError):
            library(house, name)
        pytest.skip(f"refused at every door: {reason}")
    expected = told(house, name in QUICK.get(family, ()))[name]
    assert len(expected) == 3 and all(kept.prompt and kept.pixels for kept in expected)
    for door, opened in DOORS.items():
        found = opened(house, name)
        wanted = list(expected)
        if door == "profile":  # it says what was kept and when, not what was said
            wanted = [replace(kept, answer="") for kept in wanted]
        if door == "profile" and name in DRAWN:
            wanted, found = ([replace(kept, last="") for kept in side] for side in (wanted, found))
        assert found == wanted, f"{door} differs from the command line"


@pytest.mark.parametrize(("family", "name"), _runs())
def test_wrappers_and_positions_are_the_same_at_every_door(
    houses: object, family: str, name: str
) -> None:
    house: House = houses(family)  # type: ignore[operator]
    expected = command_line(house, [name])[name]
    for door, opened in DOORS.items():
        # a profile says what was kept and when, not what was said
        wanted = [replace(kept, answer="") if door == "profile" else kept for kept in expected]
        assert opened(house, name) == wanted, f"{door} differs from the command line"
    if "wrap=" in name:
        plain = library(house, name.partition(" ")[0])
        assert [kept.last for kept in plain] != [kept.last for kept in expected]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), [case.values for case in _product()])
def test_the_harness_s_own_object_keeps_the_same_tokens(
    houses: object, family: str, name: str
) -> None:
    """It makes its own prompt, pixels and decoding; the library gets the same calls."""
    house: House = houses(family)  # type: ignore[operator]
    if (reason := _refusal(house, name)) is not None:
        pytest.skip(f"refused at every door: {reason}")
    kept, calls = harness_object(house, name)
    assert len(kept) == len(calls) == 3
    expected = again(house, name, calls)
    assert [replace(one, answer=one.answer.strip()) for one in kept] == [
        replace(one, answer=one.answer.strip()) for one in expected
    ]


def test_the_house_of_llava_has_a_clip_that_is_used(houses: object) -> None:
    house: House = houses("llava")  # type: ignore[operator]
    with_clip = told(house, True)["cdpruner"]
    without = library(House(house.family, house.checkpoint, None, house.folder), "cdpruner")
    assert [kept.last for kept in with_clip] != [kept.last for kept in without]
    assert isinstance(house.clip, Path)
