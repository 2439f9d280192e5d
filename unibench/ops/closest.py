"""The greatest similarity of rows to a set that changes."""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 24  # remembered for each row


class Closest:
    """Answers which value is greatest in a row among the columns of a set, for set after set.

    On a CPU each row's first neighbours are found once; mostly one of them is in the set, and only
    rows without one are read again. That needs a look at values, for which a GPU would halt: there
    every row is read.

    Args:
        similarity: ``[N, N]``.
    """

    def __init__(self, similarity: Tensor) -> None:
        self._similarity = similarity
        self._near = (
            similarity.topk(min(NEIGHBOURS, len(similarity)))
            if similarity.device.type == "cpu"
            else None
        )

    def among(self, rows: Tensor, columns: Tensor) -> Tensor:
        """``similarity[rows][:, columns].amax(1)``, ``[rows]``."""
        if self._near is None:
            return self._whole(rows, columns)
        inside = torch.zeros(len(self._similarity), dtype=torch.bool).index_fill_(0, columns, True)
        present = inside[self._near.indices[rows]]  # [rows, neighbours], by falling similarity
        # the first neighbour in the set is the most similar one; argmax takes no booleans
        first = present.byte().argmax(1, keepdim=True)
        found = self._near.values[rows].gather(1, first)[:, 0]
        missing = (~present.gather(1, first)[:, 0]).nonzero()[:, 0]
        return (
            found.index_copy(0, missing, self._whole(rows[missing], columns))
            if len(missing)
            else found
        )

    def _whole(self, rows: Tensor, columns: Tensor) -> Tensor:
        return self._similarity[rows][:, columns].amax(1)
