"""What merges inside the vision tower leave for the cut in front of the language model."""

from __future__ import annotations

from torch import Tensor

from unibench import Selection, StageContext
from unibench.ops import owned


def left_by_tower(ctx: StageContext, rows: Tensor) -> Selection:
    """Tokens that merges left, with the tokens that each stands for.

    Args:
        ctx: of a prompt whose pictures were merged in the tower.
        rows: ``[K]`` of its visual tokens, that go on.
    """
    owners = ctx.vision.owners
    return Selection(rows, members=None if owners is None else lambda: owned(owners, rows))
