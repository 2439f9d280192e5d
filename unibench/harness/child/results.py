"""From a harness's own result to the numbers of a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import fmean
from typing import Any

from unibench.config import HarnessTask, MetricConfig
from unibench.errors import UsageError, nearest
from unibench.inference.verdict import Metric


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries, lists and tables as one level of dotted keys.

    A table of one row gives its columns, one of several rows ``<first column>.<column>`` (with the
    second column too where the first repeats itself); a list of one is what it holds.

    >>> flat({"a": {"b": 1}, "c": (2, 3), "d": [4]})
    {'a.b': 1, 'c.0': 2, 'c.1': 3, 'd': 4}
    """
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        rows = value.to_dict(orient="records")
        names = [*value.columns[:1]]
        if len(rows) > 1 and value[names[0]].duplicated().any():
            names = [*value.columns[:2]]
        value = (
            rows[0] if len(rows) == 1 else {_named(row, names): _left(row, names) for row in rows}
        )
    if isinstance(value, (list, tuple)):
        value = value[0] if len(value) == 1 else dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, entry in value.items():
        found.update(flat(entry, f"{prefix}.{key}" if prefix else str(key)))
    return found


def _named(row: Mapping[Any, Any], names: Sequence[Any]) -> str:
    return ".".join(str(row[name]) for name in names)


def _left(row: Mapping[Any, Any], names: Sequence[Any]) -> dict[Any, Any]:
    return {key: entry for key, entry in row.items() if key not in names}


def metrics_of(
    card: HarnessTask, raw: Mapping[str, Any], scores: Mapping[str, float]
) -> dict[str, Metric]:
    """Every metric of a card; of a benchmark without one, every number that the harness gave.

    Raises:
        UsageError: the result lacks a number that the card names, or holds none.
    """
    if not card.metrics:
        return _all_numbers(card, raw)
    found = {}
    for metric in card.metrics:
        score = sum(_number(card, metric, key, raw) for key in metric.path)
        if score != score and metric is not card.metrics[0]:
            continue  # of a part that has no questions, for example among the first twenty
        score_100 = 100 * score / metric.best
        is_mean = (
            metric is card.metrics[0]
            and bool(scores)
            and abs(100 * fmean(scores.values()) - score_100) < 0.01
        )
        found[metric.name] = Metric(score, score_100, is_mean)
    return found


def sample_scores(
    metric: MetricConfig, samples: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Score of each sample out of 1; empty unless every sample has one."""
    found = {}
    for name, values in samples.items():
        given = [
            values[key] for key in metric.sample if isinstance(values.get(key), (bool, int, float))
        ]
        if not given:
            return {}
        found[name] = float(given[0]) / metric.sample_best
    return found


def _all_numbers(card: HarnessTask, raw: Mapping[str, Any]) -> dict[str, Metric]:
    """The numbers of a result under the harness's own names, the one for the whole first. Out of
    100 they are as they stand, or times 100 where none is above 1.
    """
    numbers = {key: float(value) for key, value in raw.items() if _is_number(value)}
    if not numbers:
        raise UsageError(f"{card.name} gave no number: {', '.join(sorted(raw))[:600]}")
    scale = 100.0 if max(numbers.values()) <= 1 else 1.0
    begin = (key for key in numbers if key.lower().startswith("overall"))
    hold = (key for key in numbers if "overall" in key.lower())
    first = next(chain(begin, hold, numbers))
    return {
        key: Metric(numbers[key], scale * numbers[key])
        for key in (first, *(k for k in numbers if k != first))
    }


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and float(value) == float(value)
    except (TypeError, ValueError):
        return False


def _number(card: HarnessTask, metric: MetricConfig, key: str, raw: Mapping[str, Any]) -> float:
    try:
        return float(raw[key])
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"{card.name} has no number {key!r} for metric {metric.name}.{nearest(key, raw)} It"
            f" gave: {', '.join(sorted(raw))[:600]}"
        ) from None
