"""Records: what a line of ``samples.jsonl`` says, of this schema and of the one before."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from tests.inference._stored import archived
from tests.support.records import record
from unibench.inference.record import COLUMNS, TIMES, Record, RecordError, parse, stored
from unibench.store import lines


def test_a_record_is_read_as_it_was_written() -> None:
    one = record(question="Is it?", prompt="<image>Is it?", layout=((3, ((1, 1, 3, "", False),)),))
    line = json.dumps(one.as_json()).encode()
    assert parse(line) == one and list(json.loads(line)) == list(COLUMNS)


def test_the_store_checks_the_columns_that_a_record_has() -> None:
    needed = [field.name for field in fields(Record) if field.default is MISSING]
    assert set(lines.REQUIRED) == set(needed)
    assert set(lines.OPTIONAL) == set(COLUMNS) - set(needed)


def test_numbers_are_written_with_six_digits() -> None:
    assert record(tflops=0.12345678).as_json()["tflops"] == 0.123457


@pytest.mark.parametrize("name", ["tiny_grid", "synthvqa"])
def test_lines_of_the_previous_schema_are_records(name: str, tmp_path: Path) -> None:
    for folder in archived(name, tmp_path, 3):
        lines = (folder / "samples.jsonl").read_bytes().splitlines()
        for line in lines:
            one, before = parse(line), json.loads(line)
            assert one is not None and one.question is one.prompt is None
            now = json.loads(json.dumps(one.as_json()))
            assert {key: now[key] for key in before} == before
        assert lines


@pytest.mark.parametrize("column", [name for name in COLUMNS if name in record().as_json()])
def test_a_line_that_lacks_a_column_is_no_record_but_for_the_new_ones(column: str) -> None:
    values = record().as_json()
    del values[column]
    new = {"index", "question", "prompt", "seen", "frames", "uncounted", "run", "pixel_shapes"}
    new |= {"diagnosis", "beside", "scores"}
    if column in new | {"prompt_digest", "pixel_digest"}:
        assert parse(json.dumps(values).encode()) is not None
    else:
        assert parse(json.dumps(values).encode()) is None
        with pytest.raises(RecordError, match=f"lacks {column}|sample None lacks id"):
            Record.from_json(values)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kept", "many"),
        ("score", []),
        ("index", []),
        ("id", 7),
        ("processed", 3),
        ("layout", None),
        ("answer", None),
        ("tflops", None),
        ("notes", "one"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(column: str, value: Any) -> None:
    with pytest.raises(RecordError, match=f"{column}="):
        Record.from_json({**record().as_json(), column: value})


@pytest.mark.parametrize("line", [b"", b"garbage", b"[1]", b"null", b'"text"', b"[" * 100_000])
def test_what_is_no_object_is_no_record(line: bytes) -> None:
    assert parse(line) is None


def test_columns_of_a_later_schema_are_passed_over() -> None:
    assert Record.from_json({**record().as_json(), "company": ["s1"]}) == record()


def test_an_untimed_record_keeps_all_but_its_times() -> None:
    one, kept = record(), record().untimed()
    assert all(getattr(kept, name) is None for name in TIMES) and len(TIMES) == 5
    assert {k: v for k, v in vars(one).items() if k not in TIMES} == {
        k: v for k, v in vars(kept).items() if k not in TIMES
    }


def test_a_damaged_cell_says_how_it_is_mended(tmp_path: Path) -> None:
    lines = [record().as_json(), {"id": "s1", "score": 1.0}]
    with pytest.raises(RecordError, match=rf"sample s1 lacks .*store repair {tmp_path}"):
        stored(tmp_path, lines)
