"""Tables of one's own results."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from tests.report.reading import READERS
from tests.report.results import frame_of, line
from unibench import registry
from unibench.errors import UsageError
from unibench.report import WRITERS, Table, grid

SAME = {"model": "tiny", "harness": "none", "params": "{}"}


def result(method: str, budget: str, task: str, score: float, **more: Any) -> dict[str, Any]:
    values = {"score_100": score, "retention_pct": score / 0.8, **SAME, **more}
    return line(method=method, budget=budget, task=task, **values)


def results() -> pd.DataFrame:
    return frame_of([
        result("vanilla", "0", "one", 80.0, equiv_tokens=100.0),
        result("vanilla", "0", "two", 80.0, equiv_tokens=100.0),
        result("divprune", "0.667", "one", 70.0),
        result("divprune", "0.667", "two", 60.0),
        result("fastv", "0.667", "one", 40.0),
        result("gprune", "0.667", "one", 50.0),
        result("gprune", "0.667", "two", 40.0),
    ])  # fmt: skip


def shown(table: Table) -> dict[tuple[str, ...], list[str]]:
    return {
        line.labels: [entry.text for entry in line.entries]
        for block in table.blocks
        for line in block.lines
    }


def test_methods_are_lines_and_tasks_are_columns() -> None:
    (table,) = grid(results())
    assert table.columns == ("one", "two", "average", "of vanilla %", "same budget as")
    assert [block.label for block in table.blocks] == ["tiny"]
    assert shown(table) == {
        ("divprune", "0.667"): ["70.0", "60.0", "65.0", "81.2", "pre-LLM 0.500"],
        ("fastv", "0.667"): ["40.0", "–", "–", "–", "–"],
        ("gprune", "0.667"): ["50.0", "40.0", "45.0", "56.2", "pre-LLM 0.500"],
        ("vanilla", "0"): ["80.0", "80.0", "80.0", "100.0", "pre-LLM 0.000"],
    }


def test_a_category_is_the_mean_of_its_complete_methods() -> None:
    (table,) = grid(results(), "place")
    assert shown(table)["ViT only (2)", "0.667"] == [
        "60.0",
        "50.0",
        "55.0",
        "68.8",
        "pre-LLM 0.500",
    ]
    assert shown(table)["LLM only (0)", "0.667"] == ["–"] * 5


def test_budget_modes_never_share_a_table() -> None:
    other = frame_of([result("divprune", "0.667", "one", 10.0, budget_mode="layer_average")])
    tables = grid(pd.concat([results(), other], ignore_index=True))
    assert [table.title for table in tables] == [
        f"score out of 100, budget.mode={mode} budget.scope=sequence"
        for mode in ("at_stage", "layer_average")
    ]
    assert shown(tables[0])["divprune", "0.667"][0] == "70.0"
    assert list(shown(tables[1])) == [("vanilla", "0"), ("divprune", "0.667")]


@pytest.mark.parametrize(
    ("key", "value"), [("judge", "gpt"), ("harness", "lmms_eval"), ("metric", "f1")]
)
def test_one_task_by_two_judges_harnesses_or_metrics_is_two_columns(key: str, value: str) -> None:
    other = frame_of([result("divprune", "0.667", "one", 10.0, **{key: value})])
    (table,) = grid(pd.concat([results(), other], ignore_index=True))
    before = {"judge": "none", "harness": "none", "metric": "score"}[key]
    assert table.columns[:3] == (f"one ({before})", "two", f"one ({value})")
    assert shown(table)["divprune", "0.667"][:3] == ["70.0", "60.0", "10.0"]


def test_one_model_with_two_kernels_is_two_blocks() -> None:
    other = frame_of([result("divprune", "0.667", "one", 10.0, attn="eager")])
    (table,) = grid(pd.concat([results(), other], ignore_index=True))
    assert [block.label for block in table.blocks] == ["tiny, attn=sdpa", "tiny, attn=eager"]


def test_two_results_for_one_place_are_refused() -> None:
    other = frame_of([result("divprune", "0.667", "one", 10.0, data="new")])
    with pytest.raises(UsageError, match="2 settings, which are never mixed.*data=d or new"):
        grid(pd.concat([results(), other], ignore_index=True))


def test_two_versions_of_a_method_are_two_lines_and_no_category() -> None:
    other = frame_of([result("divprune", "0.667", "one", 10.0, source="edited")])
    both = pd.concat([results(), other], ignore_index=True)
    (table,) = grid(both)
    assert shown(table)["divprune source=c0de", "0.667"][0] == "70.0"
    assert shown(table)["divprune source=edited", "0.667"][0] == "10.0"
    with pytest.raises(UsageError, match="count as several methods.*source=c0de or edited"):
        grid(both, "place")


def test_abilities_are_columns() -> None:
    frame = frame_of(
        [
            result("divprune", "0.667", "one", score, ability=ability, n=n)
            for ability, score, n in (("all", 50.0, 7), ("see_far", 60.0, 4), ("read", 40.0, 3))
        ]
    )
    (table,) = grid(frame, "abilities")
    assert table.columns[:2] == ("see far", "read")
    assert shown(table)["divprune", "0.667"][:3] == ["60.0", "40.0", "50.0"]
    assert "samples: see far 4, read 3." in table.remarks


def test_seeds_show_their_spread() -> None:
    (table,) = grid(frame_of([result("random_pre", "0.667", "one", 50.0, std=1.25, seeds=3)]))
    assert shown(table)["random_pre", "0.667"][0] == "50.0 ± 1.2"
    assert math.isclose(float(shown(table)["random_pre", "0.667"][1]), 50)


@pytest.mark.parametrize("form", READERS)
def test_every_format_says_the_same(form: str) -> None:
    (table,) = grid(results())
    read = READERS[form](WRITERS[form](table))
    assert {
        tuple(cell.text for cell in line.cells[:2]): [cell.text for cell in line.cells[2:]]
        for line in read.lines
    } == shown(table)
    assert {line.block for line in read.lines} == {"tiny"}


def test_no_results_and_no_view_are_said() -> None:
    with pytest.raises(UsageError, match="no finished cells"):
        grid(frame_of([]))
    with pytest.raises(UsageError, match="Did you mean tasks"):
        grid(results(), "task")


@pytest.mark.parametrize("grouping", ["place", "aim"])
def test_every_method_has_a_category(grouping: str) -> None:
    groups = {name: registry.category(name, grouping) for name in registry.methods()}
    assert {name for name, group in groups.items() if group == "other"} == {"vanilla"}
    assert registry.category("somebody's own", grouping) == "other"
