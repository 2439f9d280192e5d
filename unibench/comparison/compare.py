"""Two or more methods of a folder of results, compared on the samples they share."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from unibench import frame
from unibench.comparison.against import BLIND
from unibench.config import BudgetConfig
from unibench.errors import UsageError, unknown
from unibench.identity import question_setting_of
from unibench.inference.row import columns
from unibench.stats import Agreement, Estimate, Paired, agreement, drop, paired
from unibench.stats.several import Ranking, holm, ranking
from unibench.store.files import read_json

WHERE = columns("model", "task", "harness", "judge", "pixels", "metric", "setting")
UNBUDGETED = frozenset(("vanilla", *BLIND))
BUDGET = columns("budget", "budget_mode", "budget_scope")
KEY = re.compile(r"[0-9a-f]{6,16}")


@dataclass(frozen=True)
class Side:
    """One of the two methods of a comparison.

    Attributes:
        name: method and parameters.
        budget: as written, with its mode and scope where they are not the default.
        folders: its cells, one for each seed.
        drop: against vanilla in per cent, None where vanilla is missing or answers nothing right.
        agreement: with vanilla's answers, None where vanilla is missing.
    """

    name: str
    budget: str
    folders: tuple[str, ...]
    drop: Estimate | None
    agreement: Agreement | None


@dataclass(frozen=True)
class Comparison:
    """Two methods on one task, at one budget; two certain cells perhaps at two.

    Attributes:
        where: model, task, budget (``first / second`` where it is not the same), ability and what
            else identifies the setting.
        first, second: the methods.
        result: of the paired test.
        p_holm: its p, corrected for the number of comparisons made together.
    """

    where: dict[str, Any]
    first: Side
    second: Side
    result: Paired
    p_holm: float = field(default=float("nan"))


def compare(
    cells: pd.DataFrame,
    words: Sequence[str],
    *,
    by_ability: bool = False,
    abilities: Sequence[str] = (),
) -> list[Comparison]:
    """Every pair of the given methods, wherever both were run with the same budget in the same
    setting.

    Args:
        cells: a frame of :func:`unibench.frame.load`.
        words: ``divprune``, ``fastv+layer=3``, a cell's key or its folder. Two cells are compared
            whatever their budgets; vanilla, and what is asked without a picture, with any.
        by_ability: whether each ability is a comparison of its own. One correction is made over
            all of them.
        abilities: the same of these alone.

    Raises:
        UsageError: a word that names nothing or several versions of a method, methods that never
            meet, or an ability that no sample has.
    """
    lines = frame.whole(cells)
    meetings = list(meet(lines, words))
    settings = [line["setting"] for meeting in meetings for line in meeting]
    vanilla = frame.vanillas(_joined(lines[lines["setting"].isin(settings)]))
    if by_ability or abilities:
        found = [
            _comparison(one, two, vanilla, ability)
            for one, two in meetings
            for ability in _abilities(one, two, abilities)
        ]
    else:
        found = [_comparison(one, two, vanilla) for one, two in meetings]
    if not found:
        known = {name for one, two in meetings for name in _abilities(one, two, ())}
        raise unknown("ability", abilities[0] if abilities else "", known)
    corrected = holm([one.result.p for one in found])
    return [
        Comparison(**{**vars(one), "p_holm": p}) for one, p in zip(found, corrected, strict=True)
    ]


def meet(
    lines: pd.DataFrame, words: Sequence[str]
) -> Iterator[tuple[pd.Series[Any], pd.Series[Any]]]:
    """The pairs of lines that words name, see :func:`compare`.

    Args:
        lines: of :func:`unibench.frame.whole`.
        words: as :func:`compare` takes them.

    Raises:
        UsageError: as :func:`compare`.
    """
    chosen = [_chosen(lines, word) for word in words]
    pairs = itertools.combinations(chosen, 2)
    found = [meeting for first, second in pairs for meeting in _meetings(first, second)]
    if not found:
        raise UsageError(
            f"{' and '.join(words)} have no setting and budget in common; {_differences(chosen)}"
        )
    yield from found


def _abilities(one: pd.Series[Any], two: pd.Series[Any], wanted: Sequence[str]) -> Iterator[str]:
    """The abilities that both of two lines were asked about, of those that are wanted."""
    first, second = frame.answers(one["folder"][0]), frame.answers(two["folder"][0])
    there = dict.fromkeys(answer.ability for name, answer in first.items() if name in second)
    yield from (name for name in there if not wanted or name in wanted)


def rank(cells: pd.DataFrame, words: Sequence[str]) -> Ranking:
    """Friedman's and Nemenyi's tests of the methods over all settings that they share; budgets of a
    setting are averaged first, since they are not independent.

    Raises:
        UsageError: fewer than three methods, or than two settings where all of them were run; or a
            word that names several versions of a method.
    """
    lines = frame.whole(cells)
    places = ["setting", "metric", *BUDGET]
    scores = {word: _chosen(lines, word).lines.set_index(places)["score_100"] for word in words}
    table = pd.DataFrame(scores).dropna()
    return ranking(table.groupby(level=["setting", "metric"], sort=False).mean())


@dataclass(frozen=True)
class _Chosen:
    """What a word names.

    Attributes:
        lines: of the frame, seeds joined.
        cell: whether it is one certain cell, which may be compared at another budget.
    """

    lines: pd.DataFrame
    cell: bool


def _chosen(lines: pd.DataFrame, word: str) -> _Chosen:
    """The lines that a word names, joined over seeds."""
    if (Path(word) / "metrics.json").is_file():
        given = frame.whole(frame.build([Path(word) / "metrics.json"]))
        if given.empty:
            raise UsageError(f"the row in {word} is damaged; the command that made it writes it")
        return _Chosen(_joined(given), cell=True)
    if KEY.fullmatch(word) and (lines["key"].str.startswith(word)).any():
        return _Chosen(_joined(lines[lines["key"].str.startswith(word)]), cell=True)
    method, _, variant = word.partition("+")
    named = lines[lines["method"] == method]
    if named.empty:
        raise unknown(
            "method or cell",
            word,
            sorted(set(lines["method"])),
            "of the finished cells; also a cell's key or folder",
        )
    variants = sorted(set(named["variant"]))
    if variant not in variants:
        if variant or len(variants) > 1:
            names = [f"{method}+{name}" if name else method for name in variants]
            raise unknown("variant", word, names)
        variant = variants[0]
    joined = _joined(named[named["variant"] == variant])
    twice = joined[joined.duplicated(["setting", *BUDGET], keep=False)]
    for _, versions in twice.groupby(["setting", *BUDGET], sort=False):
        first = versions.iloc[0]
        raise UsageError(
            f"{word} at {first['budget']} on {first['task']} is {len(versions)} versions of a"
            f" method, which are never pooled: {frame.difference(versions)}. Name one by its key:"
            f" {', '.join(str(keys[0]) for keys in versions['key'])}"
        )
    return _Chosen(joined, cell=False)


def _joined(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines joined over seeds; the samples give the intervals of a comparison."""
    return frame.over_seeds(lines, intervals=False)


def _meetings(first: _Chosen, second: _Chosen) -> Iterator[tuple[pd.Series[Any], pd.Series[Any]]]:
    """Pairs of lines of one setting and budget. Two cells meet at any budgets and of any two
    engines, and vanilla and questions without their picture meet every budget.
    """
    for _, one in first.lines.iterrows():
        for _, two in second.lines.iterrows():
            both = first.cell and second.cell
            anyway = both or not UNBUDGETED.isdisjoint((one["method"], two["method"]))
            same = one["setting"] == two["setting"] or (both and _same_questions(one, two))
            if same and (anyway or all(one[name] == two[name] for name in BUDGET)):
                yield one, two


def _same_questions(one: pd.Series[Any], two: pd.Series[Any]) -> bool:
    """Whether two cells differ in the engine that answered at most, beside what is compared."""
    identities = [read_json(Path(line["folder"][0]) / "identity.json") for line in (one, two)]
    first, second = (question_setting_of(identity) for identity in identities)
    return first == second


def _differences(chosen: Sequence[_Chosen]) -> str:
    """Where the methods were run, for the message that they never meet."""
    shown = []
    for side in chosen:
        places = sorted(
            set(side.lines["model"] + " x " + side.lines["task"] + " x " + side.lines["budget"])
        )
        shown.append(f"{side.lines.iloc[0]['method']}: {', '.join(places)}")
    return "; ".join(shown)


def _comparison(
    one: pd.Series[Any], two: pd.Series[Any], vanilla: pd.DataFrame, ability: str = frame.ALL
) -> Comparison:
    result = paired(*frame.paired_scores(one["folder"], two["folder"], ability))
    where = {name: one[name] for name in WHERE}
    where |= {name: _of_both(one, two, name) for name in BUDGET} | {"ability": ability}
    # of two engines each has its own
    sides = [_side(line, vanilla["folder"].get(line["setting"]), ability) for line in (one, two)]
    return Comparison(where, sides[0], sides[1], result)


def _of_both(one: pd.Series[Any], two: pd.Series[Any], name: str) -> Any:
    """A part of the budget of two cells, both where they differ; vanilla has none."""
    values = [line[name] for line in (one, two) if line["method"] not in UNBUDGETED]
    values = list(dict.fromkeys(values or [one[name]]))
    return values[0] if len(values) == 1 else " / ".join(map(str, values))


def name_of(line: pd.Series[Any]) -> str:
    """A method with its parameters."""
    return "+".join(part for part in (line["method"], line["variant"]) if part)


def budget_in_words(line: pd.Series[Any]) -> str:
    """A budget as written, with its mode and scope where they are not the default."""
    usual = BudgetConfig()
    mode = "" if line["budget_mode"] == usual.mode else str(line["budget_mode"])
    scope = "" if line["budget_scope"] == usual.scope else f"per {line['budget_scope']}"
    return " ".join(part for part in (str(line["budget"]), mode, scope) if part)


def _side(line: pd.Series[Any], reference: Sequence[str] | None, ability: str) -> Side:
    name, budget = name_of(line), budget_in_words(line)
    if reference is None or line["method"] == "vanilla":
        return Side(name, budget, tuple(line["folder"]), None, None)
    full = frame.answers(reference[0])
    own = [frame.answers(folder) for folder in line["folder"]]
    pairs = [
        (before, table[sample])
        for table in own
        for sample, before in full.items()
        if sample in table and ability in (frame.ALL, before.ability)
    ]
    if not pairs:
        raise frame.no_common_sample(reference[0], line["folder"][0])
    groups = [before.group for before, _ in pairs]
    scores = [before.score for before, _ in pairs], [after.score for _, after in pairs]
    answers = [before.answer for before, _ in pairs], [after.answer for _, after in pairs]
    against = drop(*scores, groups) if any(scores[0]) else None  # of nothing right, none can drop
    return Side(name, budget, tuple(line["folder"]), against, agreement(answers, scores, groups))


def as_record(one: Comparison) -> dict[str, Any]:
    """A comparison as plain values, scores in per cent."""
    result = one.result
    record = {**one.where, **asdict(result), "p_holm": one.p_holm}
    record |= {name: 100 * getattr(result, name) for name in ("difference", "low", "high")}
    record |= {"first_100": 100 * result.first, "second_100": 100 * result.second}
    for place, side in (("first", one.first), ("second", one.second)):
        drops, agreed = side.drop, side.agreement
        record[place] = side.name
        record[f"{place}_budget"] = side.budget
        record[f"{place}_seeds"] = len(side.folders)
        record[f"{place}_drop_pct"] = (
            None if drops is None else [drops.value, drops.low, drops.high]
        )
        record[f"{place}_loyalty"] = (
            None if agreed is None else [agreed.loyalty, agreed.interval.low, agreed.interval.high]
        )
        record[f"{place}_flips"] = (
            None if agreed is None else {"lost": agreed.lost, "won": agreed.won}
        )
    return record
