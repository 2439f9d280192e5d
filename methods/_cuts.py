"""What methods with several cuts inside the language model share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unibench import Method, Stage, StageContext, UsageError
from unibench.cost.accounting import rounded
from unibench.pruning.attention import QUERY_CHUNK


@dataclass(frozen=True)
class Cuts(Method):
    """Given cuts as a method: :meth:`Method.averaged` then finds the ``keep`` of their counts.

    Attributes:
        cuts: in the order in which they are made.
    """

    cuts: tuple[Stage, ...]

    def stages(self, depth: int) -> Sequence[Stage]:
        return self.cuts


def check_layers(method: str, layers: Sequence[int], shares: Sequence[float], least: int) -> None:
    """Raise unless the layers rise from ``least`` on, and shares between 0 and 1 belong to them.

    Args:
        method: named in errors.
        layers: whose inputs are cut; empty where the method has its own.
        shares: one for each layer; empty where the budget says how many stay.
        least: the first layer that can be cut.

    Raises:
        UsageError: they do not.
    """
    if layers and (layers[0] < least or list(layers) != sorted(set(layers))):
        raise UsageError(
            f"layers of {method} {list(layers)}: whole numbers from {least} on, each greater than"
            " the one before"
        )
    if layers and shares and len(shares) != len(layers):
        raise UsageError(
            f"{method} has {len(shares)} shares for cuts at {len(layers)} layers; one for each"
        )
    if any(not 0 <= share <= 1 for share in shares):
        raise UsageError(f"shares of {method} {list(shares)}: each between 0 and 1")


def three_times(number: int, cuts: int, keep: int, total: int) -> int:
    """Three times the budget, then equal factors to it."""
    first = min(total, 3 * keep)
    return rounded(first * (keep / first) ** (number / cuts))


def around_mean(number: int, cuts: int, keep: int, total: int) -> int:
    """One and a half times ``keep``, as far as there are so many, then equal factors to what makes
    ``keep`` the mean of a cut in the middle.

    >>> [around_mean(number, 1, 64, 576) for number in (0, 1)]
    [96, 32]
    """
    keep = min(keep, total)
    first = min(total, rounded(1.5 * keep))
    last = max(1, 2 * keep - first)
    return rounded(first * (last / first) ** (number / cuts))


def text_attention(ctx: StageContext, layer: int, rows: Tensor) -> Tensor:
    """Mean attention of text rows on each visual token, over heads and rows, ``[N]``.

    Args:
        ctx: of a stage that declared the layer.
        layer: of the decoder.
        rows: of ``ctx.hidden``; a few at once are held.
    """
    # a long question over a long video would not fit as [heads, rows, tokens] at once
    parts = [ctx.attention(layer, part).mean(0).sum(0) for part in rows.split(QUERY_CHUNK)]
    return torch.stack(parts).sum(0) / len(rows)
