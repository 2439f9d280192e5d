"""Which number of a column is best beyond doubt, and which comes second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Beyond = Callable[[Sequence[str], Sequence[str]], bool]
"""Whether the difference between two cells, given by the folders of their seeds, lies beyond its
paired interval."""


@dataclass(frozen=True)
class Candidate:
    """A number that may be marked.

    Attributes:
        value: higher is better.
        cell: folders of its samples, one for each seed.
    """

    value: float
    cell: Sequence[str]


def ranked(candidates: Sequence[Candidate | None], beyond: Beyond) -> tuple[int | None, int | None]:
    """Index of the best and of the second.

    The best is named only if its difference to the runner-up lies beyond the paired interval; the
    second only if there is a best, and if the same holds between the second and the third (or there
    is none).
    """
    order = sorted(
        (i for i, candidate in enumerate(candidates) if candidate),
        key=lambda i: -_at(candidates, i).value,
    )
    if len(order) < 2 or not beyond(_at(candidates, order[0]).cell, _at(candidates, order[1]).cell):
        return None, None
    if len(order) > 2 and not beyond(
        _at(candidates, order[1]).cell, _at(candidates, order[2]).cell
    ):
        return order[0], None
    return order[0], order[1]


def _at(candidates: Sequence[Candidate | None], index: int) -> Candidate:
    found = candidates[index]
    assert found is not None
    return found
