"""What a CSV file of published numbers says, to hold against a table read back. Shares nothing with
the reports.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from tests.report.reading import Read

SETTING = re.compile(r"(lambda|N1|(cross|intra)-modal metric)=|importance: |ablation\d: ")
NAMES = {"coco_cap": "coco", "divprune_star": "divprune"}
WORDS = {
    "vit_only": "ViT only",
    "llm_only": "LLM only",
    "two_stage": "two stages",
    "none": "",
    "hybrid": "hybrid",
}
MODELS = {"llava-next-7b": "llavanext7b", "average": "meanofthethreemodels"}


@dataclass(frozen=True)
class Number:
    """A printed number with everything that a table must show of it."""

    value: str
    std: str
    benchmark: str
    metric: str
    method: str
    setting: tuple[str, ...]
    category: str
    place: tuple[str, str, str, bool]  # model, retention, kept, printed a second time
    notes: frozenset[str]


def expected(path: Path) -> list[Number]:
    numbers = []
    with path.open(newline="", encoding="utf-8") as stream:
        for record in csv.DictReader(stream):
            pieces = [piece for piece in record["note"].split("; ") if piece]
            setting = tuple(piece for piece in pieces if SETTING.match(piece))
            notes = frozenset(piece for piece in pieces if piece not in setting)
            place = (
                record["model"],
                record["retention"],
                record["kept_tokens"],
                "DUPLICATE" in record["note"],
            )
            labels = (
                record["benchmark"],
                record["metric"],
                record["method"],
                setting,
                record["category"],
                place,
            )
            numbers.append(Number(record["value"], record["std"], *labels, notes))
    return numbers


def letters(text: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", text.lower()).replace(".", "")


def differences(read: Read, numbers: list[Number]) -> list[str]:
    """Every way in which the table says something else than the CSV file."""
    heads = [title for title in read.titles if title in ("method", "setting", "category")]
    shown = [
        (line, read.titles[place], cell)
        for line in read.lines
        if not line.minor
        for place, cell in enumerate(line.cells)
        if place >= len(heads) and cell.text
    ]
    found = (
        []
        if len(shown) == len(numbers)
        else [f"{len(shown)} numbers shown, {len(numbers)} in the CSV file"]
    )
    everywhere = {
        remark.removeprefix("every number: ")
        for remark in read.remarks
        if remark.startswith("every number: ")
    }
    columns: dict[str, tuple[str, str]] = {}
    places: dict[str, set[tuple[str, str, str, bool]]] = {}
    for (line, title, cell), number in zip(shown, numbers, strict=False):
        labels = dict(zip(heads, (cell.text for cell in line.cells), strict=False))
        told = {
            "value": (cell.text, f"{number.value} ± {number.std}" if number.std else number.value),
            "benchmark": (titled(title, number), True),
            "column": (
                columns.setdefault(title, (number.benchmark, number.metric)),
                (number.benchmark, number.metric),
            ),
            "method": (letters(labels["method"]), letters(NAMES.get(number.method, number.method))),
            "setting": (labels.get("setting", ""), ", ".join(number.setting)),
            "category": (labels.get("category", ""), WORDS.get(number.category, number.category)),
            "notes": (
                everywhere | {read.notes[mark] for mark in line.cells[0].marks + cell.marks},
                set(number.notes),
            ),
            "star": (labels["method"].endswith("*"), number.method.endswith("_star")),
        }
        found += [
            f"{name} of {number}: {given!r}, not {wanted!r}"
            for name, (given, wanted) in told.items()
            if given != wanted
        ]
        if number.method != "vanilla":
            places.setdefault(line.block, set()).add(number.place)
            if not says(line.block, number.place):
                found.append(f"block label {line.block!r} over {number}")
    return found + [
        f"block {label!r} covers {members}" for label, members in places.items() if len(members) > 1
    ]


def titled(title: str, number: Number) -> bool:
    """Whether a column's title names the benchmark, or the cost where the paper names no benchmark."""
    if number.benchmark == "efficiency":
        return letters(number.metric).startswith(letters(re.split(r"[ ,]", title)[0]))
    return letters(title).startswith(letters(NAMES.get(number.benchmark, number.benchmark)))


def says(label: str, place: tuple[str, str, str, bool]) -> bool:
    """Whether a block label tells the budget of its lines, or the model where the paper states no
    budget.
    """
    model, retention, kept, twice = place
    if twice != ("a second time" in label):
        return False
    numbers = re.findall(r"[\d.]+", label)
    if kept:
        return kept in numbers
    if retention:
        share = float(retention)
        return any(
            abs(float(number) - percent) < 0.06
            for number in numbers
            for percent in (100 * share, 100 * (1 - share))
        )
    return letters(MODELS.get(model, model)) == letters(label)
