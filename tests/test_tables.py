"""One's own tables: a row that cannot be scored, or is asked for another, is refused by its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unibench import tables

HEADER = ("index", "question", "A", "B", "C", "answer")
ROWS = [("1", "Which?", "red", "blue", "green", "A"), ("2", "Which?", "red", "blue", "", "B")]


def table(folder: Path, *rows: tuple[str, ...], header: tuple[str, ...] = HEADER) -> Path:
    file = folder / "MMStar.tsv"
    file.write_text("\n".join("\t".join(row) for row in (header, *rows)), encoding="utf-8")
    return file


def test_rows_that_can_be_scored_are_no_mistake(tmp_path: Path) -> None:
    free = ("3", "How many?", "", "", "", "None of them, e.g. \u2028 zero")
    assert not tables.mistakes(table(tmp_path, *ROWS, free))
    plain = table(tmp_path, ("1", "Is it?", "Yes"), header=("index", "question", "answer"))
    assert not tables.mistakes(plain)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("3", "q", "x", "y", "z", ""), "row 3, index 3: its answer is empty"),
        (("3", "q", "x", "y", "z", "nan"), "'nan', which is read as none"),
        (("3", "q", "", "", "", "NULL"), "'NULL', which is read as none"),
        (("3", "q", "x", "y", "z", "b"), "none of its options A, B, C.*Did you mean B"),
        (("3", "q", "x", "y", "z", "B "), "'B ' is none of its options.*Did you mean B"),
        (("3", "q", "x", "y", "z", "E"), "'E' is none of its options A, B, C, so"),
        (("3", "q", "x", "y", "", "C"), "'C' is none of its options A, B, so"),
        (("2", "q", "x", "y", "z", "A"), "rows 2 and 3 have one index, 2"),
        (("02", "q", "x", "y", "z", "A"), "rows 2 and 3 have one index, 2"),
        (("", "q", "x", "y", "z", "A"), "row 3 has no index"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named(
    row: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (mistake,) = tables.mistakes(table(tmp_path, *ROWS, row))
    assert str(tmp_path / "MMStar.tsv") in mistake
    assert re.search(said, mistake)


def test_files_that_are_no_tables_are_named(tmp_path: Path) -> None:
    file = tmp_path / "t.tsv"
    for content, said in (
        ("index\tquestion\nä".encode("latin-1"), "is not UTF-8"),
        ("index\tanswer\n1\tA".encode("utf-16"), "is not UTF-8"),
        (b"index\tquestion\tanswer\n", "holds no row"),
        (b"", "holds no row"),
    ):
        file.write_bytes(content)
        (mistake,) = tables.mistakes(file)
        assert said in mistake and str(file) in mistake
    assert "is no plain file" in tables.mistakes(tmp_path)[0]


def test_a_table_whose_splits_are_scored_apart_has_that_column(tmp_path: Path) -> None:
    (mistake,) = tables.mistakes(table(tmp_path, *ROWS), ["index", "answer", "split"])
    assert "has no column split" in mistake
    both = [(*row, "dev") for row in ROWS]
    assert not tables.mistakes(table(tmp_path, *both, header=(*HEADER, "split")), ["split"])


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"options": ["r", "b"], "answer": "C"}, "'C' is none of its options A, B, so"),
        ({"options": ["r", "b"], "answer": "a"}, "Did you mean A"),
        ({"options": ["r", "b"], "answer": "B "}, "'B ' is none of its options.*Did you mean B"),
        ({"options": ["r", "b"], "answer": "2"}, "none of its 2 options, which are counted from 0"),
        ({"choices": ["r", "b"], "answer": 2}, "none of its 2 options"),
        ({"choices": "['r', 'b']", "answer": "E"}, "none of its options A, B"),
        ({"options": ["r", "b"], "answer": None}, "its answer is empty"),
        ({"A": "x", "B": "y", "C": "nan", "answer": "C"}, "none of its options A, B"),
        ({"A": "x", "B": "y", "answer": "b"}, "Did you mean B"),
    ],
)
def test_a_document_whose_label_is_no_option_is_named(
    document: dict[str, object], said: str
) -> None:
    assert re.search(said, tables.mistake_of_document(document) or "")


@pytest.mark.parametrize(
    "document",
    [
        {"options": ["r", "b"], "answer": "A"},
        {"options": ["r", "b"], "answer": "r"},
        {"options": ["r", "b"], "answer": "1"},
        {"choices": ["r", "b"], "answer": 0},
        {"choices": "['r', 'b']", "answer": "B"},
        {"options": "[]", "answer": "12 cm"},  # an open question of MMMU
        {"options": "not a list", "answer": "12 cm"},
        {"A": "x", "B": "y", "answer": "B"},
        {"options": ["None", "NA"], "answer": "A"},  # texts here, as no pandas reads them
        {"A": "None", "B": "y", "answer": "A"},
        {"question": "q", "answer": "None"},
        {"question": "q", "answer": "yes"},
        {"question": "q", "answer": ["yes", "no"]},
        {"question": "q"},
    ],
)
def test_a_document_whose_label_is_an_option_is_no_mistake(document: dict[str, object]) -> None:
    assert tables.mistake_of_document(document) is None
