"""Tokens processed per layer, and the figures that published budgets come to when they are counted
so.
"""

from __future__ import annotations

import doctest
import itertools
from typing import Any

import pytest

from tests.methods._contexts import OPTIONS
from unibench import Method, UsageError, registry
from unibench.api import build_method
from unibench.budget import Budget
from unibench.cost import accounting
from unibench.cost.accounting import (
    equivalent_tokens,
    keep_after_cut,
    matched_keep,
    processed,
    steps,
)
from unibench.methods import _recycling
from unibench.methods.fitprune import PUBLISHED

N = 576
MAY_MISS = {
    "aim",
    "framefusion",
    "mustdrop",
    "mustdrop_vit",
    "pixelprune",
    "pooling",
    "prumerge",
    "prumerge_plus",
    "prunevid",
    "sttm",
    "vtw",
}


def mean(name: str, keep: int, total: int = N, depth: int = 32, **options: Any) -> float:
    return equivalent_tokens(
        processed(build_method(name, **options).stages(depth), keep, total, depth)
    )


@pytest.mark.parametrize("module", [accounting, _recycling])
def test_the_examples_in_the_docstrings_run(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


def test_only_methods_that_cannot_meet_a_budget_declare_themselves_adaptive() -> None:
    assert {name for name, card in registry.methods().items() if card.adaptive} == MAY_MISS
    assert not build_method("two_stage").adaptive
    assert build_method("two_stage", pre="pooling").adaptive
    assert build_method("schedule", method="dart").text_aware


@pytest.mark.parametrize("name", sorted(set(registry.methods()) - MAY_MISS - {"vanilla"}))
@pytest.mark.parametrize("depth", [6, 28, 32, 36, 40])
def test_the_last_cut_of_every_other_method_leaves_exactly_the_budget(
    name: str, depth: int
) -> None:
    stages = build_method(name, **OPTIONS.get(name, {})).stages(depth)
    assert all(stage.exact for stage in stages)
    for total in (1, 16, 256, 576, 1222, 2880):
        for ratio in (0, 0.1, 0.667, 0.889, 0.99):
            keep = Budget.parse(ratio=ratio).keep(total)
            counts = processed(stages, keep, total, depth)
            assert counts[-1] == keep
            assert all(before >= after >= 1 for before, after in itertools.pairwise(counts))


@pytest.mark.parametrize("name", ["fastv", "random_intra", "dart"])
def test_a_cut_at_layer_2_processes_215_155_and_95_at_nominal_192_128_and_64(name: str) -> None:
    assert [mean(name, int(N * kept)) for kept in (0.333, 0.222, 0.111)] == pytest.approx(
        [215.06, 155.06, 95.06], abs=0.01
    )
    assert [round(mean(name, int(N * kept))) for kept in (0.333, 0.222, 0.111)] == [215, 155, 95]


def test_dart_as_published_processes_160_at_nominal_128() -> None:
    assert mean("dart", 4 + 8 * (128 // 8)) == 159.75  # printed 159.8


def test_a_cut_at_layer_2_that_matches_an_average_keeps_what_fastv_says() -> None:
    for depth, expected in ((32, (166.4, 98.1, 29.9)), (40, (171.8, 104.4, 37.1))):
        assert [
            round(keep_after_cut(average, 2, N, depth), 1) for average in (192, 128, 64)
        ] == list(expected)
        stages = build_method("fastv").stages(depth)
        matched = [matched_keep(stages, average, N, depth) for average in (192, 128, 64)]
        assert matched == [round(number) for number in expected]
    for depth, share in ((28, 0.0426), (32, 0.0517)):  # random_intra.md: of .111 on average
        assert keep_after_cut(0.111, 2, 1, depth) == pytest.approx(share, abs=5e-5)


def test_sparsevlm_processes_206_145_114_and_82_at_nominal_192_128_96_and_64() -> None:
    counts = {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)}
    given = [mean("sparsevlm", 64, counts=row) for row in counts.values()]
    assert [round(value, 1) for value in given] == [
        206.5,
        145.4,
        114.1,
        82.2,
    ]  # 82.25, printed 82.3
    # v2 merges nothing
    plain = {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)}
    unmerged = [mean("sparsevlm", 64, counts=row, recycle=0.0) for row in plain.values()]
    assert [round(value, 1) for value in unmerged] == [206.8, 144.1, 113.9, 81.8]


def test_what_sparsevlm_prints_is_the_mean_after_each_layer() -> None:
    for row, printed in (
        ((300, 200, 110), 192.03),
        ((303, 110, 36), 128.62),
        ((238, 48, 26), 96.94),
        ((66, 30, 17), 64.81),
    ):
        counts = processed(build_method("sparsevlm", counts=row).stages(32), 64, N, 32)
        assert equivalent_tokens([*counts[1:], counts[-1]]) == pytest.approx(printed, abs=0.006)


def test_a_published_schedule_of_sparsevlm_is_met_where_the_budget_is_its_last_number() -> None:
    stages = build_method("sparsevlm").stages(32)
    for row in _recycling.PUBLISHED:
        after = _recycling.left(row, N, 0.3)
        assert processed(stages, after[-1], N, 32) == steps(
            list(zip((3, 7, 16), after, strict=True)), N, 32
        )


def test_pyramiddrop_processes_270_of_576_and_never_fewer_than_a_quarter() -> None:
    assert mean("pyramiddrop", 72) == 270
    assert mean("pyramiddrop", 72) == mean("pyramiddrop", 64, retentions=(0.5, 0.25, 0.125))
    assert mean("pyramiddrop", 72, depth=40) == 270
    stages = build_method("pyramiddrop").stages(32)
    for average in (128, 64):  # its own Table 2 says these; the published layers cannot
        with pytest.raises(
            UsageError,
            match=rf"{average} of 576 visual tokens per layer cannot be reached.*8, 16, 24 of 32",
        ):
            matched_keep(stages, average, N, 32)
    assert steps([(8, 0)], N, 32) == (N,) * 8 + (0,) * 24
    assert equivalent_tokens(steps([(8, 0)], N, 32)) == 144
    earlier = build_method("pyramiddrop", layers=(2, 6, 15)).stages(32)
    assert equivalent_tokens(
        processed(earlier, matched_keep(earlier, 64, N, 32), N, 32)
    ) == pytest.approx(64, abs=1.5)


def test_no_whole_layer_of_vtw_is_192_128_or_64() -> None:
    assert [round(average * 32 / N, 2) for average in (192, 128, 64)] == [10.67, 7.11, 3.56]
    assert [round(average * 40 / N, 1) for average in (192, 128, 64)] == [13.3, 8.9, 4.4]
    assert mean("vtw", 64, layer=15) == 270
    assert mean("vtw", 64, layer=16) == 288
    assert mean("vtw", 64) == 270
    stages = build_method("vtw").averaged(32)
    reached = [equivalent_tokens(processed(stages, average, N, 32)) for average in (192, 128, 64)]
    assert reached == [11 * N / 32, 7 * N / 32, 4 * N / 32]


def test_the_published_recipes_of_fitprune_process_245_and_73() -> None:
    mild, harsh = PUBLISHED
    assert (sum(mild), sum(harsh)) == (449, 539)
    for recipe, average in ((mild, 245), (harsh, 72.8)):
        left = [N - sum(recipe[:layer]) for layer in range(32)]
        assert equivalent_tokens(left) == pytest.approx(average, abs=0.5)
        assert processed(
            build_method("fitprune", recipe=recipe).stages(32), N - sum(recipe), N, 32
        ) == tuple(left)
        assert processed(build_method("fitprune").stages(32), N - sum(recipe), N, 32) == tuple(left)


def test_the_three_designs_of_table_5_differ_in_what_they_process() -> None:
    big = 100_000  # so that rounding does not show
    keep = Budget.parse(retention="0.110889").keep(big)  # 0.333 squared
    assert mean("two_stage", keep, big, 28, intra_options={"layer": 2}) / big == pytest.approx(
        0.127, abs=5e-4
    )
    assert mean("fastv", keep, big, 28) / big == pytest.approx(0.175, abs=1e-3)
    assert mean("divprune", keep, big, 28) / big == pytest.approx(0.111, abs=5e-4)
    assert build_method("two_stage").counts(keep, big) == (33300, keep)  # type: ignore[attr-defined]


INTRA = ["dart", "fastv", "fitprune", "random_intra", "schedule", "sparsevlm", "two_stage"]


@pytest.mark.parametrize("name", INTRA)
@pytest.mark.parametrize("depth", [28, 32, 40])
@pytest.mark.parametrize("total", [576, 1222])
def test_the_matched_budget_processes_the_average(name: str, depth: int, total: int) -> None:
    method = build_method(name)
    stages = method.averaged(depth)
    for ratio in (0.5, 0.667, 0.778, 0.889):
        average = Budget.parse(ratio=ratio).keep(total)
        counts = processed(stages, average, total, depth)
        assert equivalent_tokens(counts) == pytest.approx(average, abs=2)
        assert counts[-1] < average
    assert processed(stages, total, total, depth) == (total,) * depth


@pytest.mark.parametrize("name", [*INTRA, "pyramiddrop"])
def test_more_budget_never_processes_less(name: str) -> None:
    stages = build_method(name).stages(32)
    means = [sum(processed(stages, keep, N, 32)) for keep in range(1, N + 1)]
    assert means == sorted(means)


def test_numbers_that_are_given_do_not_follow_an_average() -> None:
    for method in (
        build_method("pyramiddrop", retentions=(0.5, 0.25, 0.125)),
        build_method("sparsevlm", counts=(300, 200, 110)),
        build_method("sparsevlm", rank=True),
        build_method("two_stage", pre_ratio=0.667, intra_ratio=0.667),
        build_method("schedule", cuts=[[2, 0.5], [4, 0.1]]),
    ):
        with pytest.raises(UsageError, match="at_stage"):
            processed(method.averaged(32), 64, N, 32)
    with pytest.raises(UsageError, match="both say where vtw withdraws"):
        build_method("vtw", layer=4).averaged(32)


def test_a_pre_llm_method_is_its_own_average() -> None:
    method: Method = build_method("divprune")
    assert (
        processed(method.averaged(32), 64, N, 32)
        == processed(method.stages(32), 64, N, 32)
        == (64,) * 32
    )
