"""Whether two cells differ beyond doubt on the samples that both answered."""

from __future__ import annotations

from collections.abc import Sequence

from unibench.errors import UsageError
from unibench.frame import paired_scores
from unibench.inference.row import ALL


def beyond(one: Sequence[str], other: Sequence[str], ability: str = ALL) -> bool:
    """Whether the 95 % interval of the paired difference, clustered by picture, leaves 0 out.

    Args:
        one: folders of a cell, one for each seed.
        other: those of the other.
        ability: whose samples are compared.

    Returns:
        False also where a harness stored no score per sample, so that no interval exists.
    """
    from unibench.stats.interval import DRAWS  # scipy: a table of one's own needs none
    from unibench.stats.paired import paired

    try:
        return paired(*paired_scores(one, other, ability), draws=DRAWS).sure
    except UsageError:
        return False
