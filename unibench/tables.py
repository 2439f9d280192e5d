"""One's own tables in the place of a published benchmark: each row is a question with its answer.

VLMEvalKit reads them with pandas, which takes an empty cell for the text ``nan``, and scores by
equality: a label that is no option is wrong whatever the model says.
"""

from __future__ import annotations

import ast
import csv
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from unibench.errors import shown

LETTERS = tuple("ABCDEFGHIJKLMNOP")
# what pandas reads as an empty cell
EMPTY = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)


def mistakes(table: Path, columns: Sequence[str] = ()) -> Sequence[str]:
    """What is wrong with a table, tab-separated and with a header, each with its place.

    Args:
        table: a file.
        columns: that the card names; of these, ``split`` is looked up when all is answered.
    """
    try:
        state = table.stat()
    except OSError as error:
        return (f"{table} cannot be read: {error.strerror}",)
    if not stat.S_ISREG(state.st_mode):  # to read a pipe would wait for a writer
        return (f"{table} is no plain file",)
    return _mistakes(table, state.st_mtime_ns, state.st_size, "split" in columns)


@cache
def _mistakes(table: Path, changed: int, size: int, is_split: bool) -> tuple[str, ...]:
    """Of a file in one state: the cells of a grid share it."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            csv.field_size_limit(sys.maxsize)  # pictures in base64 are longer than its default
            reader = csv.DictReader(stream, delimiter="\t")
            if is_split and reader.fieldnames and "split" not in reader.fieldnames:
                return (f"{table} has no column split, whose parts are scored apart",)
            return tuple(_of_rows(table, reader))
    except UnicodeDecodeError:
        return (f"{table} is not UTF-8; save the file as UTF-8",)
    except (OSError, csv.Error) as error:
        return (f"{table} cannot be read: {error}",)


def questions_of(table: Path, limit: int | None = None) -> Iterator[tuple[str, str]]:
    """What the first rows of a table ask, options included, each after its place."""
    with table.open(encoding="utf-8-sig", newline="", errors="replace") as stream:
        csv.field_size_limit(sys.maxsize)
        rows = islice(csv.DictReader(stream, delimiter="\t"), limit)
        for number, row in enumerate(rows, 1):
            asked = [row.get(column) for column in ("question", "hint", *LETTERS)]
            yield f"{table} row {number}", "\n".join(filter(None, asked))


def _of_rows(table: Path, reader: csv.DictReader[str]) -> Iterator[str]:
    answered = "answer" in (reader.fieldnames or ())
    places: dict[str, int] = {}
    rows = 0
    for rows, row in enumerate(reader, 1):
        index = _number(row.get("index") or "")
        where = f"{table} row {rows}, index {shown(index)}"
        if index in EMPTY and "index" in row:
            yield f"{table} row {rows} has no index"
            continue
        if index in places and "index" in row:
            yield (
                f"{table}: rows {places[index]} and {rows} have one index, {shown(index)}; give"
                " each row an index of its own"
            )
        places[index] = rows
        if answered and (reason := _of_answer(row)):
            yield f"{where}: {reason}"
    if not rows:
        yield f"{table} holds no row"


def _of_answer(row: Mapping[str, str | None]) -> str | None:
    """Why the answer of a row is no label, None if it is one."""
    answer = row["answer"] or ""
    if answer.strip() in EMPTY:
        found = f"is {answer!r}, which is read as none" if answer else "is empty"
        return f"its answer {found}; a row without a label cannot be scored, leave it out"
    return _of_label(answer, [one for one in LETTERS if (row.get(one) or "").strip() not in EMPTY])


def _of_label(answer: str, options: Sequence[str]) -> str | None:
    """Why a label is none of the letters of its options, None if it is one or there are none."""
    if not options or answer in options:
        return None
    near = next((letter for letter in options if answer.strip().upper() == letter), None)
    meant = f" Did you mean {near}?" if near else ""
    return (
        f"its answer {shown(repr(answer))[:40]} is none of its options {', '.join(options)}, so no"
        f" reply could be right.{meant}"
    )


def mistake_of_document(document: Mapping[str, Any]) -> str | None:
    """Why the answer of a question of lmms-eval is none of its options, None if it is one or there
    are no options: in columns A, B, ... or in a list, as which a column may hold a text.

    >>> mistake_of_document({"options": ["red", "blue"], "answer": "b"})
    "its answer 'b' is none of its options A, B, so no reply could be right. Did you mean B?"
    >>> mistake_of_document({"choices": "['red', 'blue']", "answer": 1})
    >>> mistake_of_document({"choices": ["red", "blue"], "answer": "(B)"})
    """
    answer, listed = document.get("answer"), document.get("options", document.get("choices"))
    if isinstance(listed, str):
        try:
            listed = ast.literal_eval(listed)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    if listed is None:
        return _of_columns(document) if isinstance(answer, str) else None
    if not isinstance(listed, (list, tuple)) or isinstance(answer, (list, tuple, dict, bool)):
        return None
    if not listed or answer in listed:
        return None
    if answer is None or answer == "":
        return "its answer is empty; a row without a label cannot be scored, leave it out"
    if not str(answer).isdecimal():
        # CV-Bench's labels are published in parentheses, which its scoring takes off
        label = re.sub(r"^\(([A-Z])\)$", r"\1", str(answer))
        return _of_label(label, LETTERS[: len(listed)])
    if int(str(answer)) < len(listed):
        return None
    return f"its answer {answer} is none of its {len(listed)} options, which are counted from 0"


def _of_columns(document: Mapping[str, Any]) -> str | None:
    """The same where each option has a column; a text such as None is an option here."""
    there = [name for name in LETTERS if str(document.get(name) or "nan").strip() != "nan"]
    return _of_label(document["answer"], there)


def _number(index: str) -> str:
    """An index as pandas reads it: 01 and 1 are one number."""
    try:
        return str(int(index))
    except ValueError:
        return index
