"""Rules for texts that both harnesses share or vary, written anew from their definitions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

MARKS = ';/[]"{}()=+\\_-><@`,?!'  # of the VQA evaluation; the full stop has a rule of its own
NUMBERS = {"none": "0", "zero": "0"} | {
    word: str(number)
    for number, word in enumerate(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], 1
    )
}
ARTICLES = {"a", "an", "the"}


def without_marks(text: str, *, stop: str) -> str:
    """The VQA evaluation's normalisation: marks beside a blank vanish, others become blanks.

    Args:
        text: an answer.
        stop: pattern of the full stops that vanish.
    """
    joined = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in MARKS:
        beside = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if joined or beside else " ")
    return re.sub(stop, "", cleaned)


def plain_words(text: str) -> str:
    """Small letters, numbers as digits, no articles. Contractions, which no stand-in has, are left
    alone.
    """
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(word for word in words if word not in ARTICLES)


def agreement(answer: str, people: Sequence[str]) -> float:
    """VQA accuracy: each person in turn is left out; three of the others make an answer right."""
    left_out = [
        sum(other == answer for j, other in enumerate(people) if j != i) for i in range(len(people))
    ]
    return sum(min(1.0, count / 3) for count in left_out) / len(people)


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance in characters."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def anls(answer: str, accepted: Sequence[str]) -> float:
    """One minus the smallest normalised edit distance; nothing below one half."""

    def far(truth: str) -> float:
        longest = max(len(truth), len(answer))
        return edit_distance(_even(truth), _even(answer)) / longest if longest else 0.0

    near = 1 - min(map(far, accepted))
    return near if near >= 0.5 else 0.0


def _even(text: str) -> str:
    return " ".join(text.lower().split())


def relaxed(answer: str, truth: str) -> bool:
    """ChartQA: numbers may be 5 % off, other answers may not differ but in case."""
    given, wanted = number(answer), number(truth)
    if given is not None and wanted:
        return abs(given - wanted) <= 0.05 * abs(wanted)
    return answer.lower() == truth.lower()


def number(text: str) -> float | None:
    """A number or a percentage, if it is one."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def only_named(answer: str, options: Mapping[str, str]) -> str:
    """The letter of the one option whose text is in the answer, or nothing."""
    named = [letter for letter, text in options.items() if text.lower() in answer.lower()]
    return named[0] if len(named) == 1 else ""
