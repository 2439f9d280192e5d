"""SparseVLM's numbers: how many dropped tokens are clustered, into how many, and the published
counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from unibench.cost.accounting import REFERENCE, rounded

# kept at three cuts of a 576-token picture, before recycling, for nominal 64, 96, 128 and 192
PUBLISHED = ((66, 30, 17), (238, 48, 26), (303, 110, 36), (300, 200, 110))
PER_CLUSTER = 10


def recycled(dropped: int, share: float) -> int:
    """Dropped tokens that are clustered."""
    # the "+ 1" is in SparseVLM's code, also where the share is a whole number
    return min(dropped, int(share * dropped) + 1) if share else 0


def clusters(dropped: int, share: float) -> int:
    """Clusters they form.

    >>> clusters(276, 0.3), clusters(20, 0.3), clusters(20, 0.0)
    (9, 1, 0)
    """
    return recycled(dropped, share) // PER_CLUSTER + 1 if share and dropped else 0


def left(counts: Sequence[int], total: int, share: float) -> tuple[int, ...]:
    """Tokens after each cut, merged ones included, when ``counts`` are kept before recycling.

    >>> left((300, 200, 110), 576, 0.3)
    (309, 204, 113)
    """
    found, present = [], total
    for count in counts:
        kept = min(count, present - 1)
        present = kept + clusters(present - kept, share)
        found.append(present)
    return tuple(found)


def kept_of(keep: int, present: int, share: float) -> int:
    """Tokens kept before recycling so that ``keep`` are left with the merged ones, at most half of
    which are merged.

    >>> kept_of(309, 576, 0.3), kept_of(64, 576, 0.3), kept_of(1, 576, 0.3)
    (300, 48, 1)
    """
    # one more kept is one fewer dropped, so the sum grows by 0 or 1 and meets every number
    for kept in range(keep, keep - keep // 2, -1):
        if kept + min(clusters(present - kept, share), keep // 2) <= keep:
            return kept
    return keep - keep // 2


def scaled(number: int, keep: int, total: int, share: float) -> int:
    """Tokens after cut ``number`` of the published schedule whose last cut leaves ``keep``.

    Between published schedules, and towards keeping everything, shares are interpolated on a double
    logarithmic scale; a published schedule is met where ``keep`` is its last number.

    >>> [scaled(cut, 113, 576, 0.3) for cut in range(3)]
    [309, 204, 113]
    >>> [scaled(cut, 36, 1152, 0.3) for cut in range(3)]
    [164, 64, 36]
    """
    if keep >= total:
        return total
    knots = [
        [math.log(count / REFERENCE) for count in left(counts, REFERENCE, share)]
        for counts in PUBLISHED
    ]
    wanted = math.log(keep / total)
    knots = (
        [[wanted * value / knots[0][-1] for value in knots[0]], *knots]
        if wanted < knots[0][-1]
        else knots
    )
    for low, high in pairwise([*knots, [0.0] * len(knots[0])]):
        if wanted <= high[-1]:
            weight = (wanted - low[-1]) / (high[-1] - low[-1])
            return max(
                keep, rounded(total * math.exp(low[number] + weight * (high[number] - low[number])))
            )
    raise AssertionError("keep < total has a negative logarithm")
