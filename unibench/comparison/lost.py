"""Which samples one method answers and another does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from unibench import frame
from unibench.comparison.compare import budget_in_words, meet, name_of

Change = Literal["lost", "won"]


@dataclass(frozen=True)
class Changed:
    """A sample that two methods score differently.

    Attributes:
        model, task: where it was asked.
        budget: of the second method, or of the first where the second is vanilla.
        change: ``lost``: the second scores it lower; ``won``: higher.
        id: of the sample.
        ability: that it tests.
        question: as it was asked; None where an earlier version or a harness stored none.
        truth: an accepted answer.
        first, second: names of the methods.
        first_answer, second_answer: what they answered; with several seeds, the first of them.
        first_score, second_score: from 0 to 1, means over seeds.
        group: the picture.
    """

    model: str
    task: str
    budget: str
    change: Change
    id: str
    ability: str
    question: str | None
    truth: str
    first: str
    second: str
    first_answer: str
    second_answer: str
    first_score: float
    second_score: float
    group: str


def changed(
    cells: pd.DataFrame, first: str, second: str, abilities: Sequence[str] = ()
) -> list[Changed]:
    """All samples that the second method loses and wins against the first, lost ones first,
    wherever both were run as :func:`unibench.comparison.compare.compare` takes them.

    Args:
        cells: a frame of :func:`unibench.frame.load`.
        first, second: methods or cells.
        abilities: only samples of these, if any are given.

    Raises:
        UsageError: as :func:`unibench.comparison.compare.compare`.
    """
    found = [
        sample
        for one, two in meet(frame.whole(cells), [first, second])
        for sample in _between(one, two)
        if not abilities or sample.ability in abilities
    ]
    return sorted(found, key=lambda sample: sample.change != "lost")


def _between(one: pd.Series[Any], two: pd.Series[Any]) -> Iterator[Changed]:
    """The samples that two lines, joined over seeds, score differently."""
    before, after = frame.mean_scores(one["folder"]), frame.mean_scores(two["folder"])
    if not before.keys() & after.keys():
        raise frame.no_common_sample(one["folder"][0], two["folder"][0])
    said, asked = frame.answers(two["folder"][0]), frame.samples(one["folder"][0])
    pruned = one if two["method"] == "vanilla" else two
    for sample, (score, group) in before.items():
        other = after[sample][0] if sample in after else float("nan")
        if not (score < other or score > other):  # alike, or one of them was not scored
            continue
        record = asked.loc[sample]
        yield Changed(
            model=str(one["model"]),
            task=str(one["task"]),
            budget=budget_in_words(pruned),
            change="lost" if other < score else "won",
            id=sample,
            ability=str(record["ability"]),
            question=None if pd.isna(record["question"]) else str(record["question"]),
            truth=str(record["truth"]),
            first=name_of(one),
            second=name_of(two),
            first_answer=str(record["answer"]),
            second_answer=said[sample].answer,
            first_score=score,
            second_score=other,
            group=group,
        )
