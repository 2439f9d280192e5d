"""The unpruned model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unibench import Method, Stage


@dataclass(frozen=True)
class Vanilla(Method):
    """Keeps every visual token: the reference that drops are measured against.

    Code: none; the model runs as it is, with the same clocks attached.
    Cost: none.
    """

    @property
    def uses_budget(self) -> bool:
        return False

    def stages(self, depth: int) -> Sequence[Stage]:
        return ()
