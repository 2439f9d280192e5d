"""Rows: what ``metrics.json`` says, of this schema and of the one before."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.inference._stored import archived
from tests.support.records import record
from tests.support.turns import some_of
from unibench import frame
from unibench.compose import compose_cells
from unibench.identity import Cell, cell_of, vanilla_of
from unibench.inference.row import LINE, Row, RowError, columns, read_row, row_of, stored_row
from unibench.inference.verdict import Metric, Verdict

HERE = {"device": "cpu", "code": "test"}


def cell(*words: str) -> Cell:
    (config,) = compose_cells(["model=tiny_qwen2_5_vl", *words], sweep=False)
    return cell_of(config)


def test_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = cell("method=fastv", f"out={tmp_path}")
    full = row_of(vanilla_of(one), [record()], [HERE], None, "accuracy")
    row = row_of(one, [record(score=0.5), record(id="s1")], [HERE], full, "accuracy")
    assert (row.score_100, row.vanilla_100, row.drop_pct, row.n) == (75, 100, 25, 2)
    assert not list(tmp_path.iterdir()), "making a row writes nothing"
    stored = json.loads(json.dumps(row.as_json()))
    assert Row.from_json(stored, one.identity) == row
    assert set(stored) == {field.name for field in fields(Row)} - {"identity"}
    assert (row.setting, row.series) == (one.setting, one.series)


@pytest.mark.parametrize("name", ["tiny_grid", "synthvqa"])
def test_rows_of_the_previous_schema_are_rows(name: str, tmp_path: Path) -> None:
    folders = archived(name, tmp_path, 12)
    for folder in folders:
        row, before = read_row(folder), json.loads((folder / "metrics.json").read_text())
        now = json.loads(json.dumps(row.as_json()))
        assert {**{key: now[key] for key in before}, "folder": ""} == {**before, "folder": ""}
        assert row.folder == str(folder) and row.metrics == {} and row.uncounted == ()
    lines = frame.whole(frame.load(tmp_path))
    assert len(lines) == len(folders) and lines["source"].str.len().min() > 8


def test_a_drop_below_vanillas_zero_is_not_defined() -> None:
    one = cell("method=fastv")
    full = row_of(vanilla_of(one), [record(score=0.0)], [HERE], None, "accuracy")
    row = row_of(one, [record(score=1.0)], [HERE], full, "accuracy")
    assert row.drop_pct is row.retention_pct is None and row.vanilla_100 == 0


def test_a_harness_gives_the_score_and_its_other_metrics() -> None:
    verdict = Verdict(
        metrics={"accuracy": Metric(50.0, 50.0), "f1": Metric(0.4, 40.0)},
        scores={},
        raw={},
        data="local:x",
        prompts="p",
        generation={"do_sample": False},
        judge="exact",
        judged=0,
        remarks=("accuracy is of 2 of the 3 questions of n",),
    )
    assert Verdict.from_json(json.loads(json.dumps(verdict.as_json()))) == verdict
    before = {key: value for key, value in verdict.as_json().items() if key != "remarks"}
    assert Verdict.from_json(before).remarks == ()
    one = cell("method=vanilla", "task=pope")
    row = row_of(one, [record(score=None)], [HERE], None, "accuracy", verdict)
    assert (row.score, row.ci_low, row.harness, row.judge) == (50, None, "vlmevalkit", "exact")
    assert row.notes[-1] == "accuracy is of 2 of the 3 questions of n"
    assert Row.from_json(json.loads(json.dumps(row.as_json())), one.identity).metrics == row.metrics
    assert [line["metric"] for line in row.lines()] == ["accuracy", "f1"]


def test_every_line_of_a_row_has_the_columns_of_a_frame() -> None:
    records = [record(id=f"s{number}", ability=name) for number, name in enumerate(("all", "b"))]
    lines = list(row_of(cell("method=fastv"), records, [HERE], None, "accuracy").lines())
    assert all(set(line) == set(LINE) for line in lines)
    assert [line["ability"] for line in lines] == ["all", "no ability", "b"]


def test_a_reader_of_a_column_that_does_not_exist_fails_when_it_is_imported() -> None:
    with pytest.raises(KeyError, match="prefil_ms is no column"):
        columns("prefill_ms", "prefil_ms")


@some_of(
    "column, value",
    [
        ("method", []),
        ("n", None),
        ("n", "3"),
        ("abilities", []),
        ("abilities", {"a": {"n": 1}}),
        ("abilities", {"a": {"n": 1, "score_100": "x", "ci_low": 0, "ci_high": 0}}),
        ("metrics", {"a": 3}),
        ("task", "\ud800"),
        ("tflops", "1"),
        ("notes", None),
    ],
    2,
)
def test_a_row_of_other_types_is_named_and_costs_nothing_else(
    column: str, value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = archived("tiny_grid", tmp_path, 2)[:2]
    row = json.loads((bad / "metrics.json").read_text())
    (bad / "metrics.json").write_text(json.dumps({**row, column: value}))
    with pytest.raises(RowError):
        read_row(bad)
    lines = frame.load(tmp_path)
    assert set(lines["folder"]) >= {str(good)} and str(bad) not in set(lines["folder"])
    assert str(bad) in caplog.text


def test_an_identity_that_lacks_an_entry_is_damage(tmp_path: Path) -> None:
    (folder, *_) = archived("tiny_grid", tmp_path, 1)
    identity = json.loads((folder / "identity.json").read_text())
    for name in ("task", "model", "source", "data", "budget"):
        (folder / "identity.json").write_text(
            json.dumps({key: value for key, value in identity.items() if key != name})
        )
        with pytest.raises(RowError, match="damaged"):
            read_row(folder)


def test_a_damaged_row_of_a_cell_counts_as_none(tmp_path: Path) -> None:
    one = cell("method=vanilla", f"out={tmp_path}")
    one.folder.mkdir(parents=True)
    row = row_of(one, [record()], [HERE], None, "accuracy").as_json()
    (one.folder / "metrics.json").write_text(json.dumps(row))
    assert stored_row(one) is not None
    del row["abilities"]
    (one.folder / "metrics.json").write_text(json.dumps(row))
    assert stored_row(one) is None
