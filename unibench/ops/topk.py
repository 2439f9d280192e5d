"""Top-k with a tie rule that does not depend on the device."""

from __future__ import annotations

from torch import Tensor


def top_k(scores: Tensor, k: int) -> Tensor:
    """Indices of the ``k`` highest scores, ascending; equal scores go to the lower index.

    Args:
        scores: ``[N]``.
        k: at most N.

    Returns:
        ``[k]`` sorted indices.

    >>> import torch
    >>> top_k(torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0]), 3)
    tensor([1, 2, 3])
    """
    return scores.argsort(descending=True, stable=True)[:k].sort().values
