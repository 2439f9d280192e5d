"""Whether a pruned model still gives the answers of the unpruned one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unibench.stats.interval import Interval, mean_interval


@dataclass(frozen=True)
class Agreement:
    """Answers against vanilla's.

    Attributes:
        loyalty: share of samples with the same answer, right or wrong; ``interval``: of it.
        lost: share that vanilla scores higher; ``won``: share that it scores lower. Both are flips.
    """

    loyalty: float
    interval: Interval
    lost: float
    won: float


def agreement(
    answers: tuple[Sequence[str], Sequence[str]],
    scores: tuple[Sequence[float], Sequence[float]],
    groups: Sequence[str],
) -> Agreement:
    """How far answers follow vanilla's.

    Args:
        answers: vanilla's and the method's, sample by sample. Case, spaces and a full stop at the
            end do not count.
        scores: of them.
        groups: the picture of each sample.

    >>> agreement((["Yes.", "no"], ["yes", "2"]), ([1, 0], [1, 1]), ["a", "b"])
    Agreement(loyalty=0.5, interval=Interval(low=0.0, high=1.0), lost=0.0, won=0.5)
    """
    # pictures are drawn as for scores, since questions share them here too
    same = [float(plain(one) == plain(two)) for one, two in zip(*answers, strict=True)]
    gains = [two - one for one, two in zip(*scores, strict=True)]
    lost, won = sum(gain < 0 for gain in gains), sum(gain > 0 for gain in gains)
    return Agreement(
        sum(same) / len(same), mean_interval(same, groups), lost / len(gains), won / len(gains)
    )


def plain(answer: str) -> str:
    """An answer without case, repeated blanks and a final full stop.

    >>> plain(" A  red  car. ")
    'a red car'
    """
    return " ".join(answer.split()).casefold().removesuffix(".")
