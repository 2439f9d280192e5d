"""What methods with several cuts inside the language model share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unibench import Method, Stage, UsageError


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
