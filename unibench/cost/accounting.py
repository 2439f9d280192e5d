"""Visual tokens that decoder layers process: counted from a method's cuts, and solved for a wanted
average.

The tokens *processed* by layer ``l`` are those that enter it. A cut at layer ``K`` leaves layers
below ``K`` with everything, so ``keep`` after the cut is less than the average. Published budgets
count differently (after the cut, after each layer, on average): docs/budgets.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Protocol

from unibench.errors import UsageError

REFERENCE = (
    # visual tokens of a LLaVA-1.5 picture, for which published schedules and budgets are stated
    576
)


class Cut(Protocol):
    """A stage, as far as its numbers go."""

    @property
    def layer(self) -> int:
        """The decoder layer whose input is cut."""
        ...

    @property
    def count(self) -> Callable[[int, int], int] | None:
        """``(keep, total) -> number`` left; None is ``keep``."""
        ...


def rounded(value: Fraction | float) -> int:
    """The nearest whole number, halves up: the rounding rule of every count.

    >>> rounded(Fraction(5, 2)), rounded(63.94)
    (3, 64)
    """
    return int(Fraction(value + Fraction(1, 2)).__floor__())


def processed(stages: Sequence[Cut], keep: int, total: int, depth: int) -> tuple[int, ...]:
    """Visual tokens that enter each of ``depth`` decoder layers when every stage keeps its count.

    Args:
        stages: of a method, in any order.
        keep: the budget.
        total: visual tokens of the sample.
        depth: number of decoder layers.
    """
    found, count = [], total
    cuts = sorted(stages, key=lambda stage: stage.layer)
    for layer in range(depth):
        while cuts and cuts[0].layer == layer:
            stage = cuts.pop(0)
            # a later stage cannot bring tokens back
            count = min(count, keep if stage.count is None else stage.count(keep, total))
        found.append(count)
    return tuple(found)


def steps(cuts: Sequence[tuple[int, int]], total: int, depth: int) -> tuple[int, ...]:
    """As :func:`processed`, from (layer, count) pairs.

    >>> steps([(2, 64)], 576, 4)
    (576, 576, 64, 64)
    """
    after = dict(cuts)
    found, count = [], total
    for layer in range(depth):
        count = min(count, after.get(layer, count))
        found.append(count)
    return tuple(found)


def equivalent_tokens(per_layer: Sequence[int]) -> float:
    """Tokens of a pre-LLM method that would process as many: the mean over layers.

    >>> equivalent_tokens([576, 576, 64, 64])
    320.0
    """
    return float(_mean(per_layer))


def keep_after_cut(average: float, layer: int, total: int, depth: int) -> float:
    """Tokens after one cut at ``layer`` so that the mean over layers is ``average``; negative if it
    cannot be.

    >>> round(keep_after_cut(64, 2, 576, 32), 1), round(keep_after_cut(128, 2, 576, 40), 1)
    (29.9, 104.4)
    """
    return (average * depth - layer * total) / (depth - layer)


def withdrawal_layer(keep: int, total: int, depth: int) -> int:
    """The layer from which no visual token is left, for a mean of ``keep``: nearest to ``keep *
    depth / total``, at least 1.

    >>> [withdrawal_layer(keep, 576, 32) for keep in (192, 128, 64)]
    [11, 7, 4]
    """
    return min(depth, max(1, rounded(Fraction(keep * depth, total))))


def matched_keep(stages: Sequence[Cut], average: int, total: int, depth: int) -> int:
    """The budget whose mean of processed tokens is nearest to ``average``; of two equally near the
    smaller.

    Raises:
        UsageError: even one token is too many, since layers before the first cut process
            everything; or the cuts do not follow the budget.
    """
    # everything is kept, whatever the cuts
    if average >= total:
        return total
    if stages and processed(stages, 1, total, depth) == processed(stages, total, total, depth):
        raise UsageError(
            "budget.mode=layer_average: the numbers of this method are given, not taken from the"
            " budget; use at_stage"
        )
    low, high = 1, total
    while low < high:  # the mean does not fall when the budget grows
        middle = (low + high) // 2
        if _mean(processed(stages, middle, total, depth)) >= average:
            high = middle
        else:
            low = middle + 1
    near = [keep for keep in (low - 1, low) if keep >= 1]
    best = min(
        near, key=lambda keep: (abs(_mean(processed(stages, keep, total, depth)) - average), keep)
    )
    reached = _mean(processed(stages, best, total, depth))
    # one token off is rounding; more is a mean that no budget reaches
    if best == 1 and reached - average > 1:
        layers = ", ".join(str(layer) for layer in sorted({stage.layer for stage in stages}))
        raise UsageError(
            f"budget.mode=layer_average: {average} of {total} visual tokens per layer cannot be"
            f" reached; the cuts at layer {layers} of {depth} process at least {float(reached):.1f}"
            " on average. Cut earlier, keep more, or use budget.mode=at_stage"
        )
    return best


def spread(layers: Sequence[int], published: int, depth: int) -> tuple[int, ...]:
    """Layers published for a model of ``published`` layers, at the same relative depth of another.

    They stay different, at least 1, and in order as long as there is room.

    >>> [spread((3, 7, 16), 32, depth) for depth in (32, 28, 6)], spread((8, 16, 24), 32, 4)
    ([(3, 7, 16), (3, 6, 14), (1, 2, 3)], (1, 2, 3))
    """
    found: list[int] = []
    for layer in layers:
        place = max(1, rounded(Fraction(layer * depth, published)))
        found.append(max(place, found[-1] + 1) if found else place)
    over = found[-1] - (depth - 1)
    # shifted towards the front; a set, since too shallow a decoder merges cuts
    return tuple(found) if over <= 0 else tuple(sorted({max(1, place - over) for place in found}))


def _mean(per_layer: Sequence[int]) -> Fraction:
    return Fraction(sum(per_layer), len(per_layer))
