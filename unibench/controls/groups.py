"""Samples that need their picture in full, and those that do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RIGHT = 0.5  # a score from here on counts as right


@dataclass(frozen=True)
class Share:
    """Right answers among some samples.

    Attributes:
        right: how many of them are right; one without an answer is wrong.
        of: their number.
    """

    right: int
    of: int

    @property
    def percent(self) -> float:
        """Per cent; not-a-number of no samples."""
        return self.right / self.of * 100 if self.of else float("nan")


@dataclass(frozen=True)
class Groups:
    """The samples that vanilla answers right, by what a smaller picture does to them.

    VTC-Bench, arXiv 2510.07143, section 4.1; its filter is one model for all, ours the model itself
    at the budget of the method.

    Attributes:
        hard: wrong once the picture is made smaller (A).
        easy: right all the same (B).
    """

    hard: tuple[str, ...]
    easy: tuple[str, ...]

    def scores(self, method: Mapping[str, float]) -> tuple[Share, Share]:
        """What a method gets right of both groups.

        Args:
            method: its scores by sample.
        """
        return _share(method, self.hard), _share(method, self.easy)

    def discordant(self, method: Mapping[str, float]) -> tuple[int, int]:
        """Samples that a method wins against the smaller picture, and those that it loses."""
        hard, easy = self.scores(method)
        return hard.right, easy.of - easy.right


def groups_of(vanilla: Mapping[str, float], smaller: Mapping[str, float]) -> Groups:
    """The groups of a task.

    Args:
        vanilla, smaller: scores by sample of the unpruned model, on the picture and on the smaller
            one; a sample that either lacks is in no group.
    """
    right = [name for name, score in vanilla.items() if score >= RIGHT and name in smaller]
    hard = tuple(name for name in right if smaller[name] < RIGHT)
    easy = tuple(name for name in right if smaller[name] >= RIGHT)
    return Groups(hard, easy)


def _share(scores: Mapping[str, float], names: tuple[str, ...]) -> Share:
    return Share(sum(scores.get(name, 0.0) >= RIGHT for name in names), len(names))
