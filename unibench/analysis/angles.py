"""Angles between the visual tokens of a picture (IDPruner, arXiv 2602.13315, appendix E,
figure 5).
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor

from unibench.ops import cosine
from unibench.pruning import StageContext

BINS = 90  # of two degrees


def pair_angles(features: Tensor) -> Tensor:
    """Angle of every pair of rows of ``features [N, D]`` in degrees, ``[N (N - 1) / 2]``."""
    above = torch.ones(len(features), len(features), dtype=torch.bool).triu(1)
    return cosine(features)[above].clamp(-1, 1).acos().rad2deg()


def histogram(contexts: Iterable[StageContext]) -> pd.DataFrame:
    """Share of pairs by angle over all pictures: ``low, high, share``, two degrees a line."""
    counts = torch.zeros(BINS, dtype=torch.float64)
    for ctx in contexts:
        counts += torch.histc(pair_angles(ctx.visual_hidden), bins=BINS, min=0, max=180).double()
    edges = torch.linspace(0, 180, BINS + 1).tolist()
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "share": (counts / counts.sum()).tolist()}
    )
