"""Whether the unpruned model scores what the paper prints for it, before anything is pruned.

A drop is measured from the base: where ours is another one, the difference of every pruned line
holds the difference of the bases too.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from unibench.audit import known
from unibench.audit.granularity import fits
from unibench.audit.questions import Version
from unibench.report import Comparison
from unibench.report.average import best
from unibench.report.layout import is_cost, shown
from unibench.report.matching import config_name
from unibench.report.published import Column, Row

Verdict = Literal["within", "missed", "cannot be tested"]
Kind = Literal["prompt", "pixels", "judge", "split", "answers", "metric", "checkpoint"]
NORMAL = 1.959964  # of a 95 % interval
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Cause:
    """What is known to move a benchmark's score without any pruning.

    Attributes:
        kind: what differs.
        says: how, and what to set.
        source: where that is known from.
    """

    kind: Kind
    says: str
    source: str


@dataclass(frozen=True)
class Published:
    """A printed score of an unpruned model.

    Attributes:
        value: as printed; None where a stand-in takes the benchmark's place.
        source: the paper's table, or the model's own card.
    """

    value: float | None
    source: str


@dataclass(frozen=True)
class Base:
    """An unpruned score of ours against a printed one.

    Attributes:
        model, benchmark: as tables name them.
        printed: and where.
        ours: on the printed scale; None where there is no finished cell.
        n: questions.
        low, high: 95 % interval on the printed scale; NaN where there is none.
        interval: what it is.
        verdict: whether the two agree.
        why: why nothing can be said, where it cannot.
        causes: of a miss, as far as they are known.
    """

    model: str
    benchmark: str
    printed: Published
    ours: float | None
    n: int | None
    low: float
    high: float
    interval: str
    verdict: Verdict
    why: str = ""
    causes: tuple[Cause, ...] = ()


def bases(comparison: Comparison, *, limited: bool) -> list[Base]:
    """The unpruned lines of a table, and the cards of their models, against ours.

    Args:
        comparison: with our results under the paper's settings.
        limited: whether only a part of the questions was asked.
    """
    found = []
    for row in comparison.lines:
        if row.method != "vanilla":
            continue
        for column, value in row.values.items():
            if column[0] == "avg" or is_cost(column, comparison.folder):
                continue
            number = None if comparison.results.standin.task else float(value.text)
            table = Published(number, f"table {comparison.name.partition('_table')[2]}")
            for printed, text in ((table, value.text), *_of_card(row, column)):
                found.append(_base(comparison, row, column, printed, text, limited=limited))
    return found


def _base(
    comparison: Comparison,
    row: Row,
    column: Column,
    printed: Published,
    text: str,
    *,
    limited: bool,
) -> Base:
    results = comparison.results
    ours = results.find(row, column)
    score = None if ours is None else results.scaled(float(ours["score_100"]), column)
    names = shown("models", row.model), shown("benchmarks", column[0]) or column[0]
    if why := _untestable(comparison, score, limited=limited):
        n = None if ours is None else int(ours["n"])
        return Base(*names, printed, score, n, math.nan, math.nan, "", "cannot be tested", why)
    assert ours is not None and score is not None
    texts = [row.values[column].text for row in comparison.lines if column in row.values]
    n, low, high, interval = _interval(column, text, texts, ours)
    if interval == "":
        why = "the metric is no share of questions, and no interval of ours is known"
        return Base(*names, printed, score, n, low, high, "", "cannot be tested", why)
    # the interval lies around the printed share, or around our mean
    inside = low <= (score if interval == "binomial" else float(text)) <= high
    if inside:
        return Base(*names, printed, score, n, low, high, interval, "within")
    causes = tuple(causes_of(column[0]))
    return Base(*names, printed, score, n, low, high, interval, "missed", causes=causes)


def _untestable(comparison: Comparison, score: float | None, *, limited: bool) -> str:
    """Why the printed score says nothing about ours; empty where it does."""
    if standin := comparison.results.standin.overrides.strip():
        return f"{standin} stands in for the paper's"
    if score is None:
        return "no finished cell"
    return "only a part of the questions was asked" if limited else ""


def _interval(
    column: Column, text: str, texts: Sequence[str], ours: Mapping[Hashable, Any]
) -> tuple[int, float, float, str]:
    """Questions, and the 95 % interval: binomial around a printed share of them, or our own.

    Args:
        column: of the table.
        text: the printed base.
        texts: all printed numbers of the column.
        ours: the line of our result.
    """
    about = known().get(column)
    versions = () if about is None else about.versions
    if versions:
        n = _version(versions, texts).n
        low, high = wilson(float(text) / 100, n)
        return n, 100 * low, 100 * high, "binomial"
    low, high = float(ours["low"]), float(ours["high"])
    if math.isnan(low):
        return int(ours["n"]), math.nan, math.nan, ""
    scale = best(*column) / 100
    return int(ours["n"]), low * scale, high * scale, "bootstrap"


def _version(versions: Sequence[Version], texts: Sequence[str]) -> Version:
    """The set of questions that most printed numbers of a column are shares of; of sets that as
    many fit the smallest, since a share of 304 questions is one of 3,040 too.
    """
    fitting = {one: sum(fits(text, one.steps) for text in texts) for one in versions}
    return max(versions, key=lambda one: (fitting[one], -one.n))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n questions.

    >>> tuple(round(end, 3) for end in wilson(0.5, 100))
    (0.404, 0.596)
    """
    spread = NORMAL**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = NORMAL / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return middle - half, middle + half


def causes_of(benchmark: str) -> list[Cause]:
    """Known causes of another unpruned score on a benchmark, those of every one behind its own."""
    return [*_causes().get(benchmark, ()), *_causes()["every benchmark"]]


@cache
def _causes() -> dict[str, tuple[Cause, ...]]:
    read = yaml.safe_load((HERE / "causes.yaml").read_text(encoding="utf-8"))
    return {name: tuple(Cause(**one) for one in entries) for name, entries in read.items()}


def _of_card(row: Row, column: Column) -> Iterable[tuple[Published, str]]:
    """What the model's own card or paper prints for the same benchmark and metric."""
    for entry in _cards().get(config_name(row.model), ()):
        if column[0] == entry["benchmark"] and column[1] in entry["metrics"]:
            yield Published(float(entry["value"]), str(entry["source"])), str(entry["value"])


@cache
def _cards() -> dict[str, list[dict[str, Any]]]:
    read: dict[str, list[dict[str, Any]]] = yaml.safe_load(
        (HERE / "cards.yaml").read_text(encoding="utf-8")
    )
    return read
