"""Marks, tests and recommendations of a page, from the samples of its cells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from unibench import frame as frames
from unibench import report as reports
from unibench.comparison.against import Against
from unibench.comparison.recommend import Recommendation, recommend
from unibench.errors import UsageError
from unibench.page.lines import rounded
from unibench.report.best import Candidate, ranked
from unibench.stats.interval import DRAWS, Estimate
from unibench.stats.paired import Paired, paired
from unibench.stats.several import holm

Mark = Literal["", "best", "second"]
PAIRS = 300  # tests of a page: a millisecond each for a few pictures, twenty for a thousand
ANSWERED, CELLS = 30_000, 300  # that recommendations read; of more the command is named
METRICS = ("prefill_ms", "equiv_tokens")  # measured, and counted where nothing was
BLOCK = ("setting", "budget", "budget_mode", "budget_scope")


@dataclass(frozen=True)
class Verdict:
    """What the samples of a series say of it.

    Attributes:
        mark: best or second of its block beyond the paired interval.
        control: name of the best control at its budget; empty where there is none.
        control_score: of that control, out of 100.
        difference: of the method minus the control, in points; low, high: its 95 % interval.
        beaten: whether the method is better beyond doubt.
    """

    mark: Mark
    control: str = ""
    control_score: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    beaten: bool = False


def verdicts(lines: pd.DataFrame, beaten: Mapping[str, Against]) -> dict[str, Verdict]:
    """What can be said of each series.

    Args:
        lines: of :func:`unibench.frame.whole`, seeds joined.
        beaten: of :func:`unibench.comparison.against.against`, for the same lines.
    """
    found: dict[str, Verdict] = {}
    marks = dict(_marks(lines))
    for series in lines["series"]:
        mark, one = marks.get(series, ""), beaten.get(series)
        if one is None:
            found[series] = Verdict(mark)
            continue
        result = one.result
        found[series] = Verdict(
            mark,
            one.control,
            control_score=_points(result.first),
            difference=_points(result.difference),
            low=_points(result.low),
            high=_points(result.high),
            beaten=one.beaten,
        )
    return found


def _marks(lines: pd.DataFrame) -> Iterator[tuple[str, Mark]]:
    pruned = lines[lines["method"] != "vanilla"]
    for _, block in pruned.groupby(list(BLOCK), sort=False):
        if len(block) < 2:
            continue
        records = block.to_dict("records")
        candidates = [Candidate(float(one["score_100"]), one["folder"]) for one in records]
        best, second = ranked(candidates, reports.beyond)
        if best is not None:
            yield str(records[best]["series"]), "best"
        if second is not None:
            yield str(records[second]["series"]), "second"


@dataclass(frozen=True)
class Pair:
    """Two series of one place, tested on the samples that both answered.

    Attributes:
        first, second: hashes of their series.
        n: samples.
        difference: second minus first in points; low, high: its 95 % interval.
        p: two-sided, by ``test``; p_holm: corrected over all pairs of the page.
        won, lost: samples that the second scores higher, and lower.
    """

    first: str
    second: str
    n: int
    difference: float | None
    low: float | None
    high: float | None
    p: float
    p_holm: float
    test: str
    won: int
    lost: int


def pairs(lines: pd.DataFrame) -> tuple[list[Pair], bool]:
    """Tests of the pairs that may be compared, those against vanilla first.

    Args:
        lines: of :func:`unibench.frame.whole`, seeds joined.

    Returns:
        The first :data:`PAIRS` of them, and whether there are more.
    """
    folders = dict(zip(lines["series"], lines["folder"], strict=True))

    found: list[tuple[str, str, Paired]] = []
    wanted = _wanted(lines)
    for first, second in wanted:
        if len(found) == PAIRS:
            return _corrected(found), True
        try:
            both = frames.paired_scores(folders[first], folders[second])
        except UsageError:  # samples that are gone are named elsewhere
            continue
        found.append((first, second, paired(*both, draws=DRAWS)))
    return _corrected(found), False


def _wanted(lines: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for _, place in lines.groupby("setting", sort=False):
        vanilla = place.loc[place["method"] == "vanilla", "series"]
        for series in (
            place.loc[place["method"] != "vanilla", "series"] if len(vanilla) == 1 else ()
        ):
            yield str(vanilla.iloc[0]), str(series)
    for _, block in lines[lines["method"] != "vanilla"].groupby(list(BLOCK), sort=False):
        yield from itertools.combinations(map(str, block["series"]), 2)


def _corrected(found: Sequence[tuple[str, str, Paired]]) -> list[Pair]:
    corrected = holm([one.p for _, _, one in found]) if found else []
    pairs_ = []
    for (first, second, one), p_holm in zip(found, corrected, strict=True):
        difference, low, high = map(_points, (one.difference, one.low, one.high))
        pairs_.append(
            Pair(
                first, second, one.n, difference, low, high,
                one.p, p_holm, one.test, one.won, one.lost,
            )
        )  # fmt: skip
    return pairs_


def _points(share: float) -> float | None:
    """A share of the score in points of 100."""
    return rounded(100 * share)


def recommended(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """The fronts of drop and cost of each model, whatever the drop; the page draws the line.

    A front within a limit of the drop is the part of this one that lies within it: what beats a
    candidate drops no more than it does.

    Args:
        cells: finished cells, not joined over seeds.
    """
    answered, count = int(frames.whole(cells)["n"].sum()), len(frames.whole(cells))
    if answered > ANSWERED or count > CELLS:
        why = (
            f"These are {count:,} cells with {answered:,} samples, more than a page reads for this."
        )
        return [{"metric": METRICS[0], "error": why}]
    found: list[dict[str, Any]] = []
    for metric in METRICS:
        try:
            fronts = recommend(cells, max_drop=math.inf, metric=metric)
            # one is enough: it is two thirds of what a page takes
            return [{"metric": metric, **_front(one)} for one in fronts]
        except UsageError as error:
            found.append({"metric": metric, "error": str(error)})
    return found


def _front(one: Recommendation) -> dict[str, Any]:
    rivals = {(rival.candidate.name, rival.candidate.budget): rival for rival in one.rivals}
    front = []
    for candidate in one.front:
        rival = rivals.get((candidate.name, candidate.budget))
        front.append(
            {
                "name": candidate.name,
                "budget": candidate.budget,
                "tasks": candidate.tasks,
                "drop": _numbers(candidate.drop),
                "cost": _numbers(candidate.cost),
                "control": candidate.control,
                "rival": rival.control.name if rival else None,
            }
        )
    return {
        "model": one.model,
        "device": one.device,
        "vanilla": _numbers(one.vanilla),
        "tried": one.tried,
        "front": front,
        "incomplete": one.incomplete,
        "controlled": one.controlled,
    }


def _numbers(one: Estimate) -> list[float | None]:
    return [rounded(value) for value in (one.value, one.low, one.high)]


def written(pairs_: Sequence[Pair], numbers: Mapping[str, int]) -> list[list[Any]]:
    """Pairs as rows of JSON, the series by their numbers among the lines."""
    return [
        [
            numbers[one.first], numbers[one.second], one.n, one.difference, one.low, one.high,
            rounded(one.p), rounded(one.p_holm), one.test, one.won, one.lost,
        ]
        for one in pairs_
        if one.first in numbers and one.second in numbers
    ]  # fmt: skip
