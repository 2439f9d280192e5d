"""The two ways in which the papers average a line over its benchmarks, and the scale of each
metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

#: Value that counts as 100, for the metrics that are not per cent already.
BEST = {
    ("mme", "perception"): 2000.0,
    ("mme", "score"): 2000.0,  # IDPruner's column holds the perception sum
    ("coco_cap", "CIDEr"): 1.0,
    ("flickr30k", "CIDEr"): 1.0,
    ("nocaps", "CIDEr"): 1.0,
}


def best(benchmark: str, metric: str) -> float:
    """The printed value that corresponds to 100.

    MME's sum of 2,800 comes as ``mme_0_100`` (divided by 28); its perception part alone has 2,000
    points. CIDEr is printed as a fraction and may exceed it. OCRBench's 1,000 points are printed as
    per cent.
    """
    return BEST.get((benchmark, metric), 100.0)


def mean_of_columns(scores: Sequence[float]) -> float:
    """UniPruneBench's average: all columns weigh the same; they must be on one scale, 0 to 100.

    >>> mean_of_columns([50.0, 70.0])
    60.0
    """
    return fmean(scores)


def mean_of_ratios(scores: Sequence[float], vanilla: Sequence[float]) -> float:
    """IDPruner's average: mean over benchmarks of the score in per cent of vanilla's. Any scale
    will do.

    >>> mean_of_ratios([40.0, 750.0], [80.0, 1000.0])
    62.5
    """
    return fmean(100 * score / reference for score, reference in zip(scores, vanilla, strict=True))


def average(
    formula: str, scores: Mapping[tuple[str, str], float], vanilla: Mapping[tuple[str, str], float]
) -> float:
    """Average of a line whose columns ``(benchmark, metric)`` hold printed values.

    Args:
        formula: ``columns`` or ``ratios``.
        scores: of the line.
        vanilla: of the table's unpruned line, with at least the same columns.
    """
    if formula == "ratios":
        return mean_of_ratios(list(scores.values()), [vanilla[column] for column in scores])
    return mean_of_columns([100 * value / best(*column) for column, value in scores.items()])
