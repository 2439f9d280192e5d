"""How many questions each benchmark asks, with sources, from ``questions.yaml``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from unibench.report.published import Column


@dataclass(frozen=True)
class Version:
    """A set of questions.

    Attributes:
        n: questions.
        name: of the split or file.
        source: where n comes from.
        levels: steps in which a question is scored.
    """

    n: int
    name: str
    source: str
    levels: int = 1

    @property
    def steps(self) -> int:
        """The score is 100 k / steps."""
        return self.n * self.levels


@dataclass(frozen=True)
class Questions:
    """What is known of a benchmark's score.

    Attributes:
        benchmark: its name in tables of results.
        metrics: that this holds for.
        versions: sets of questions that are in use; empty where the score is no share.
        untestable: why it is no share; empty where it is one.
        judged: a judge may read the answers, or exact rules.
        sibling: benchmark with the same questions in another language.
        pictures: of each subtask, where the score is a sum of accuracy and accuracy+.
    """

    benchmark: str
    metrics: tuple[str, ...]
    versions: tuple[Version, ...] = ()
    untestable: str = ""
    judged: bool = False
    sibling: str = ""
    pictures: tuple[int, ...] = ()

    @property
    def step(self) -> float:
        """Smallest difference between two possible scores; 0 where the score is continuous."""
        if self.pictures:
            return 50 / math.lcm(*self.pictures)
        return min((100 / version.steps for version in self.versions), default=0.0)


@cache
def known() -> dict[Column, Questions]:
    """By benchmark and metric."""
    found: dict[Column, Questions] = {}
    for entry in yaml.safe_load((Path(__file__).parent / "questions.yaml").read_text()):
        levels = entry.pop("levels", 1)
        versions = tuple(Version(**one, levels=levels) for one in entry.pop("versions", ()))
        metrics, pictures = (tuple(entry.pop(key, ())) for key in ("metrics", "pictures"))
        questions = Questions(**entry, metrics=metrics, pictures=pictures, versions=versions)
        found |= {(questions.benchmark, metric): questions for metric in questions.metrics}
    return found
