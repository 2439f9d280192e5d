"""Whether two cells differ beyond doubt on the samples that both answered."""

from __future__ import annotations

from collections.abc import Sequence

from unibench.errors import UsageError
from unibench.frame import mean_scores
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
        left, right = mean_scores(one, ability), mean_scores(other, ability)
    except UsageError:
        return False
    both = [
        (score, right[name][0], group) for name, (score, group) in left.items() if name in right
    ]
    both = [pair for pair in both if pair[0] == pair[0] and pair[1] == pair[1]]
    if not both:
        return False
    return paired(*map(list, zip(*both, strict=True)), draws=DRAWS).sure
