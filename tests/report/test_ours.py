"""Our numbers in the papers' tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import pytest

from tests.report.reading import read_html
from tests.report.results import frame_of, line, printed
from tests.support.frames import identified
from unibench.errors import UsageError
from unibench.report import WRITERS, Comparison, Results, StandIn, names, published, rows
from unibench.report.best import Candidate, ranked
from unibench.report.layout import is_cost, layout_of
from unibench.report.ours import View
from unibench.report.table import Table

SCORED = [name for name in names() if not name.startswith("stp") and not name.endswith("table4")]


def never(one: Sequence[str], other: Sequence[str]) -> bool:
    return False


def always(one: Sequence[str], other: Sequence[str]) -> bool:
    return True


def filled(
    name: str, frame: pd.DataFrame, *, view: View = "ours", standin: StandIn | None = None
) -> Table:
    return Comparison(name, Results(frame, rows(name), standin or StandIn()), never, view).table()


def numbers(table: Table) -> list[list[str]]:
    return [
        [entry.text for entry in line.entries]
        for block in table.blocks
        for line in block.lines
        if not line.minor
    ]


@pytest.mark.parametrize("name", SCORED)
def test_results_equal_to_the_papers_fill_its_table_and_differ_by_nothing(name: str) -> None:
    frame = printed(name)
    ours, theirs = filled(name, frame), published(name)
    columns = list(dict.fromkeys(column for row in rows(name) for column in row.values))
    lines = [row for row in rows(name) if not row.duplicate]
    for row, mine in zip(lines, numbers(ours), strict=True):
        for column, text in zip(columns, mine, strict=True):
            if column in row.values and column[0] != "avg":
                assert text == row.values[column].text
    assert ours.heads == theirs.heads
    assert ours.columns == theirs.columns
    assert not any("missing" in remark for remark in ours.remarks)
    for row, mine in zip(lines, numbers(filled(name, frame, view="difference")), strict=True):
        wanted = [column for column in columns if column in row.values and column[0] != "avg"]
        assert all(float(mine[columns.index(column)]) == 0 for column in wanted)


@pytest.mark.parametrize(
    ("name", "off"),
    [(f"idpruner_table{k}", 0) for k in (1, 2, 3, 5, 6, 7)]
    + [("uniprunebench_table1", 3), ("uniprunebench_table2", 3), ("uniprunebench_table3", 0)]
    + [("uniprunebench_table5", 1), ("uniprunebench_table6", 0), ("uniprunebench_table7", 0)],
)
def test_averages_are_those_that_the_papers_print(name: str, off: int) -> None:
    """Within 0.011 for IDPruner, 0.1 for UniPruneBench; the rows that its tables average wrongly
    are counted.
    """
    comparison = Comparison(name, Results(printed(name), rows(name), StandIn()), never)
    within = 0.011 if layout_of(name).average == "ratios" else 0.1
    wrong = 0
    for row in comparison.lines:
        for column, value in row.values.items():
            if column[0] == "avg":
                computed = comparison.value(row, column)
                assert computed is not None
                wrong += not math.isclose(computed, float(value.text), abs_tol=within)
    assert wrong == off


def test_missing_numbers_are_named_with_the_command_that_fills_them() -> None:
    frame = printed("uniprunebench_table3")
    gone = (
        (frame["method"] == "dart")
        & (frame["ratio"].round(3) == 0.889)
        & frame["task"].isin(["pope", "mme"])
    )
    table = filled("uniprunebench_table3", frame[~gone])
    (remark,) = [remark for remark in table.remarks if "missing" in remark]
    assert (
        remark
        == "2 of 190 numbers are missing; python -m unibench experiment=uniprunebench_table3 fills"
        " them: DART 0.111 (MME, POPE)"
    )
    row = read_html(WRITERS["html"](table)).lines[-2]
    assert [cell.text for cell in row.cells].count("–") == 3  # the average too


def test_no_result_at_all_says_so() -> None:
    table = filled("trimtokenator_table2", frame_of([]))
    assert (
        table.remarks[-1]
        == "60 of 60 numbers are missing; python -m unibench experiment=trimtokenator_table2 fills"
        " them: all"
    )


def test_one_model_and_task_stand_in_for_the_papers() -> None:
    tiny = {"model": "tiny", "task": "synthvqa", "harness": "none", "params": "{}"}
    frame = frame_of([
        line(**tiny, method="vanilla", ratio=0.0, budget="0", score_100=80.0),
        line(**tiny, method="divprune", ratio=0.667, budget="0.667", score_100=70.0),
        line(**tiny, method="divprune", ratio=math.nan, budget="keep64", score_100=60.0),
    ])  # fmt: skip
    table = filled("uniprunebench_table1", frame, standin=StandIn("tiny", "synthvqa"))
    assert table.columns == ("synthvqa",)
    shown = {
        (block.label[:3], row.labels[0]): row.entries[0].text
        for block in table.blocks
        for row in block.lines
    }
    assert [key for key, text in shown.items() if text != "–"] == [
        ("Upp", "Vanilla"),
        ("192", "DivPrune"),
        ("64 ", "DivPrune"),
    ]
    assert [text for text in shown.values() if text != "–"] == ["80.0", "70.0", "60.0"]
    assert "experiment=uniprunebench_table1 model=tiny task=synthvqa" in table.remarks[-1]


@pytest.mark.parametrize("view", ["difference", "both"])
def test_a_difference_to_another_task_is_refused(view: View) -> None:
    with pytest.raises(UsageError, match=f"mode={view}"):
        filled(
            "uniprunebench_table1",
            frame_of([]),
            view=view,
            standin=StandIn("tiny", "synthvqa"),
        )


def test_ours_the_papers_and_the_difference_stand_side_by_side() -> None:
    name = "uniprunebench_table3"
    frame = printed(name)
    frame.loc[frame["method"] == "fastv", "score_100"] += 1.25
    ours, difference, both = (
        numbers(filled(name, frame, view=view)) for view in ("ours", "difference", "both")
    )
    theirs = numbers(published(name))
    for lines in zip(ours, theirs, difference, both, strict=True):
        for one, other, apart, shown in zip(*lines, strict=True):
            assert shown == (f"{one} / {other} ({apart})" if one else "")
    assert any("(+1.2" in text for line in both for text in line)
    empty = numbers(filled(name, frame_of([]), view="both"))
    assert next(text for text in empty[0] if text) == f"– / {theirs[0][0]}"


@pytest.mark.parametrize(
    ("key", "value"), [("budget_scope", "item"), ("judge", "gpt"), ("pixels", "native")]
)
def test_results_of_two_settings_never_share_a_table(key: str, value: str) -> None:
    frame = printed("uniprunebench_table3")
    other = frame[frame["method"] == "dart"].assign(**{key: value})
    other = identified(other)
    with pytest.raises(UsageError, match=f"{key}="):
        filled("uniprunebench_table3", pd.concat([frame, other], ignore_index=True))


def test_of_two_budget_modes_the_published_one_is_taken_and_the_other_named_where_it_is_alone() -> (
    None
):
    frame = printed("uniprunebench_table3")
    dart, fastv = frame["method"] == "dart", frame["method"] == "fastv"
    other = identified(frame[dart].assign(budget_mode="layer_average", score_100=1.0))
    both = pd.concat(
        [other, frame.assign(budget_mode=frame["budget_mode"].where(~fastv, "layer_average"))],
        ignore_index=True,
    )
    assert numbers(filled("uniprunebench_table3", both)) == numbers(
        filled("uniprunebench_table3", frame)
    )
    assert (
        "budget.mode=layer_average: FastV; the others at_stage"
        in filled("uniprunebench_table3", both).remarks
    )


def test_costs_are_shown_in_the_papers_units() -> None:
    costs = {
        "total_s": 700.0,
        "prefill_ms": 130.0,
        "method_ms": 0.5,
        "peak_mib": 1000.0,
        "tflops": 1.0,
        "tflops_ratio": 0.1,
        "n": 2000,
    }
    same = {
        "model": "internvl3_8b",
        "task": "mme",
        "harness": "vlmevalkit",
        "params": "{}",
        "budget": "0",
        "ratio": 0.0,
        "score_100": 1.0,
    }
    table = filled("uniprunebench_table4", frame_of([line(**same, **costs, method="vanilla")]))
    assert numbers(table)[0] == ["700.00", "260.00", "1.00"]
    assert all(is_cost(column) for row in rows("uniprunebench_table4") for column in row.values)


SURE = {("a", "b"), ("a", "c"), ("b", "c")}


@pytest.mark.parametrize(
    ("sure", "expected"),
    [
        (SURE, (0, 2)),
        (SURE - {("b", "c")}, (0, None)),
        (SURE - {("a", "b")}, (None, None)),
    ],
)
def test_best_and_second_are_named_only_beyond_the_paired_interval(
    sure: set[tuple[str, str]], expected: tuple[int | None, int | None]
) -> None:
    candidates = [Candidate(3.0, ["a"]), Candidate(1.0, ["c"]), Candidate(2.0, ["b"]), None]
    assert ranked(candidates, lambda one, other: (one[0], other[0]) in sure) == expected


def test_bold_and_underline_stand_at_the_best_and_the_second() -> None:
    name = "uniprunebench_table3"
    table = Comparison(name, Results(printed(name), rows(name), StandIn()), always).table()
    for block in table.blocks[1:]:
        for place in range(len(table.columns) - 1):
            entries = [row.entries[place] for row in block.lines]
            order = sorted(range(len(entries)), key=lambda i: -float(entries[i].text))
            assert [i for i, entry in enumerate(entries) if entry.bold] == order[:1]
            assert [i for i, entry in enumerate(entries) if entry.underline] == order[1:2]
    assert not any(row.entries[-1].bold for block in table.blocks for row in block.lines)
