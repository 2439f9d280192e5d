"""Whether two cells differ beyond doubt on the samples that both answered."""

from __future__ import annotations

from collections.abc import Sequence

from unibench.errors import UsageError
from unibench.frame import mean_scores
from unibench.stats import mean_interval


def beyond(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether the 95 % interval of the paired difference, clustered by picture, leaves 0 out.

    Args:
        one: folders of a cell, one for each seed.
        other: those of the other.

    Returns:
        False also where a harness stored no score per sample, so that no interval exists.
    """
    try:
        left, right = mean_scores(one), mean_scores(other)
    except UsageError:
        return False
    paired = left.join(right["score"], how="inner", rsuffix="_other").dropna()
    if paired.empty:
        return False
    interval = mean_interval((paired["score"] - paired["score_other"]).tolist(), paired["group"].tolist())
    return interval.low > 0 or interval.high < 0
