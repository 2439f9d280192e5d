"""Answers that no model gave: right, wrong, and right in forms that a rule may or may not read."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

LETTERS = "ABCD"
MARKS = (
    ("Model respone: ", "Extracted answer:"),
    ("The response is: '", "'. You need to score"),
)  # around the answer, in VLMEvalKit's questions
OTHER = {"Yes": "No", "No": "Yes", "yes": "no", "no": "yes", "A": "B", "B": "C", "C": "D", "D": "A"}
FORMS = (
    "{right}",
    "{right}.",
    "{other}",
    "The answer is {right}.",
    "({right})",
    "{words}",
    "none",
    "I would say {right}, not {other}",
    " {right}\n",
    "It is the {words}.",
    "{right}\n\nNo more is asked, and the rest of this long answer names no letter at all",
    "A thing that is {words}",
    "two, or {right}?",
)


def answers(harness: str, name: str, folder: Path, forms: Sequence[str] = FORMS) -> dict[str, str]:
    """One made-up answer for each sample of a stand-in, by its id; the forms come in turn."""
    return filled(harness, name, folder, cycle(forms))


def filled(harness: str, name: str, folder: Path, forms: Iterable[str]) -> dict[str, str]:
    """One form for each sample of a stand-in, by its id, filled in with what is right there."""
    made = {}
    for (sample, row), form in zip(_samples(harness, name, folder), forms, strict=False):
        right = _truth(row)
        other, words = OTHER.get(right, "something else"), _words(row, right)
        made[sample] = form.format(right=right, small=right.lower(), other=other, words=words)
    return made


def verdict(response: str) -> str:
    """What the stand-in of a judge says about an answer: its first number; for MIA-Bench, points
    for capitals.
    """
    found = re.search(r"\d+", response)
    points = 9 if response.isupper() else 4
    return (
        f"score of component 1: 6/6, score of component 2: 0/4, total score: {points}/10. So."
        if found is None
        else found[0]
    )


def reply(question: str) -> str:
    """What the stand-in of a judge says to a question of VLMEvalKit: its verdict on the answer
    inside.
    """
    for before, after in MARKS:
        if before in question:
            return verdict(question.rpartition(before)[2].partition(after)[0])
    return verdict(question)


def _samples(harness: str, name: str, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    if harness == "vlmevalkit":
        rows = pd.read_csv(folder / f"{name}.tsv", sep="\t").to_dict("records")
        return [
            (str(row["index"]), {str(key): value for key, value in row.items()}) for row in rows
        ]
    if name == "vinoground":
        return _vinoground(folder / name)
    (path,) = (folder / name).glob("data/*.parquet")
    return [(str(number), row) for number, row in enumerate(pq.read_table(path).to_pylist())]


def _vinoground(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    places = {"text": "vinoground_videos", "video": "vinoground_videos_concated"}
    truth = {
        f"{entry['idx']}_{way}": entry["GT"]
        for way, place in places.items()
        for entry in json.loads(
            (folder / "hf_home" / "vinoground" / place / f"vinoground_{way}score.json").read_text()
        )
    }
    (path,) = folder.glob("data/*.parquet")
    return [
        (str(number), {"answer": truth[row["index"]]})
        for number, row in enumerate(pq.read_table(path).to_pylist())
    ]


def _truth(row: dict[str, Any]) -> str:
    """The right answer as one would say it."""
    keys = ("answer_option", "answer", "answers", "caption", "annotations_captions")
    found = next(
        (row[key] for key in keys if row.get(key) and row[key] == row[key]), "RED"
    )  # an empty place of a table is unlike itself
    if isinstance(found, str) and found.startswith("["):
        found = ast.literal_eval(found)
    if isinstance(found, list):
        found = found[0]
    if isinstance(found, dict):
        found = found["answer"]
    options = row.get("choices") or row.get("options")
    numbered = isinstance(options, list) and str(found) in "0123" and not row.get("question_type")
    return LETTERS[int(found)] if numbered else str(found)


def _words(row: dict[str, Any], right: str) -> str:
    """The right option's words, where there are options."""
    if right not in LETTERS or len(right) != 1:
        return right
    options = row.get("options") or row.get("choices") or [row.get(key) for key in LETTERS]
    options = ast.literal_eval(options) if isinstance(options, str) else options
    place = LETTERS.index(right)
    named = (
        row.get(f"choice_{right.lower()}")
        or row.get(f"choice_{right}")
        or (options[place] if place < len(options) else right)
    )
    return str(named or right)
