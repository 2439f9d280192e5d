"""Methods that hold other methods: instances in Python, names and mappings on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from unibench import Chain, Method, UsageError, registry
from unibench.api import build_method
from unibench.budget import Budget
from unibench.compose import compose_cells
from unibench.methods.dart import DART
from unibench.methods.divprune import DivPrune
from unibench.methods.fastv import FastV
from unibench.methods.l2norm import L2Norm
from unibench.methods.schedule import Schedule
from unibench.methods.two_stage import TwoStage
from unibench.methods.visionzip import VisionZip
from unibench.methods.vtw import VTW


def built(*words: str) -> object:
    """The method of a command."""
    (cell,) = compose_cells(words, sweep=False)
    parameters = {key: value for key, value in cell.method.items() if key not in ("name", "source")}
    return build_method(str(cell.method.get("source", cell.method["name"])), **parameters)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], TwoStage()),
        (["method.pre=l2norm"], TwoStage(pre=L2Norm())),
        (["method.intra_options={layer: 3}"], TwoStage(intra=FastV(3))),
        (["method.intra=dart", "method.intra_options={layer: 3}"], TwoStage(intra=DART(3))),
        (["method.intra={name: dart, layer: 3}"], TwoStage(intra=DART(3))),
        (["method.intra={name: dart}", "method.intra_options={layer: 3}"], TwoStage(intra=DART(3))),
        (
            ["method.intra={name: schedule, method: dart, cuts: [[1, 0.5]]}"],
            TwoStage(intra=Schedule(DART(), ((1, 0.5),))),
        ),
    ],
)
def test_a_command_names_the_methods(words: list[str], expected: TwoStage) -> None:
    assert built("method=two_stage", *words) == expected


def test_a_library_call_takes_instances_and_names_alike() -> None:
    wanted = TwoStage(L2Norm(), FastV(3))
    assert build_method("two_stage", pre=L2Norm(), intra=FastV(3)) == wanted
    assert build_method("two_stage", pre="l2norm", intra={"name": "fastv", "layer": 3}) == wanted
    with pytest.raises(UsageError, match="TwoStage.pre takes a method, not 'l2norm'"):
        TwoStage(pre="l2norm")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes a method, not 3"):
        build_method("two_stage", pre=3)


@pytest.mark.parametrize(
    ("pre", "ratio", "total", "counts"),
    [
        # 100 x 0.29 and 28 x 0.5 in binary: the first product lies below 29
        (L2Norm(), 0.71, 100, (28, 14)),
        (DivPrune(), 0.71, 100, (29, 14)),
        (L2Norm(), 0.667, 256, (85, 42)),
        (DivPrune(), 0.667, 256, (85, 42)),
    ],
)
def test_two_stages_count_as_the_released_code_does_in_binary_fractions(
    pre: Method, ratio: float, total: int, counts: tuple[int, int]
) -> None:
    inside = 0.5
    method = TwoStage(pre=pre, pre_ratio=ratio, intra_ratio=inside, variant="official_bug")
    assert method.counts(1, total) == counts


@pytest.mark.parametrize("given", ["[1]", "fast", "3", "[]"])
def test_parameters_of_an_inner_method_that_are_no_mapping_are_refused(given: str) -> None:
    for words in (["two_stage", "pre_options"], ["random_like", "options"]):
        with pytest.raises(UsageError, match=r"a mapping is wanted, for example \{layer: 3\}"):
            built(f"method={words[0]}", f"method.{words[1]}={given}")


def test_a_field_that_only_looks_like_a_name_is_none() -> None:
    card = registry.method("stp")
    assert card.parameters["reading"] == "two_stage"  # also the name of a method
    assert card.submethods == {}
    assert [part.name for part in registry.parts_of(card.config())] == ["stp"]
    assert registry.method("two_stage").submethods == {
        "pre": "pre_options",
        "intra": "intra_options",
    }


def test_the_parts_of_a_configured_method_are_known_to_its_key(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dataclasses import dataclass\nfrom unibench import Method\n\n\n"
        "@dataclass(frozen=True)\nclass Mine(Method):\n    layer: int = 4\n"
    )
    words = [f"method.pre={mine}:Mine", "method.intra={name: schedule, method: dart}"]
    (cell,) = compose_cells(["method=two_stage", *words], sweep=False)
    cards = registry.parts_of(cell.method)
    assert [card.name for card in cards] == ["two_stage", "mine", "schedule", "dart"]
    assert cards[1].path == mine
    assert built("method=two_stage", *words).pre.layer == 4  # type: ignore[attr-defined]
    (cell,) = compose_cells(
        ["method=two_stage", f"method.pre={{source: '{mine}:Mine', layer: 5}}"], sweep=False
    )
    assert [card.name for card in registry.parts_of(cell.method)] == ["two_stage", "mine", "fastv"]


def test_what_holds_for_a_part_holds_for_the_whole() -> None:
    for whole in (Chain((DivPrune(), VTW())), TwoStage(DivPrune(), VTW()), Schedule(VTW())):
        assert whole.adaptive and not whole.text_aware
    assert TwoStage().text_aware and not TwoStage().adaptive
    assert TwoStage(pre=VisionZip(variant="official_bug")).wants == {"cls_token", "token_projector"}
    assert Chain((FastV(), DivPrune()), (Budget(tokens=3), None)).uses_budget
    assert not Chain((FastV(),), (Budget(tokens=3),)).uses_budget


def test_a_stage_under_another_budget_counts_from_that() -> None:
    (stage,) = FastV().stages(8)
    halved = stage.under(lambda keep, total: (keep // 2, total))
    assert halved.count is not None and halved.count(64, 576) == 32
    again = halved.under(lambda keep, total: (total, total))
    assert again.count is not None and again.count(64, 576) == 288
    (first, second) = Chain((FastV(2), FastV(4)), (None, Budget(tokens=9))).stages(8)
    assert first.count is None
    assert second.count is not None and second.count(64, 576) == 9


def test_a_method_that_keeps_nothing_keeps_nothing_in_a_schedule() -> None:
    stages = Schedule(VTW(), ((2, 0.5), (4, None))).stages(8)
    assert [(stage.layer, stage.count(64, 576)) for stage in stages] == [(2, 0), (4, 0)]  # type: ignore[misc]
