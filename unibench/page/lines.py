"""What the explorer's tables and plots show, as columns of JSON: one entry for each cell or series.

The page filters, sorts and averages these; every interval, test and mark is worked out here, by the
functions that the command line prints from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from unibench import frame as frames
from unibench.comparison.against import APART, CONTROLS
from unibench.inference.row import columns

COLUMNS = columns(
    *("method", "variant", "budget", "ratio", "budget_mode", "budget_scope", "n", "score_100"),
    *("low", "high", "vanilla_100", "retention_pct", "drop_pct", "kept_mean", "tokens_in"),
    *("equiv_tokens", "tflops", "kv_mib", "prefill_ms", "vision_ms", "method_ms", "total_s"),
    *("peak_mib", "device", "ability", "series"),
)
DIGITS = 6  # significant ones: more than any table shows


@dataclass(frozen=True)
class Place:
    """Where results may be compared: a model and a task in one setting.

    Attributes:
        title: of a plot.
        model: with what tells its conditions apart.
        task: its name.
        setting: what tells settings of the task apart; empty where there is one.
        condition: number of the model and condition; averages over tasks stay within one.
        metric: name of the score.
    """

    title: str
    model: str
    task: str
    setting: str
    condition: int
    metric: str


def places_of(lines: pd.DataFrame) -> dict[str, Place]:
    """The places of lines, by the hash of the setting.

    Args:
        lines: of :func:`unibench.frame.whole`.
    """
    found: dict[str, Place] = {}
    for number, (model, part) in enumerate(frames.conditions(lines)):
        for task, here in part.groupby("task", sort=False):
            names = frames.labels(here, "setting")
            for setting, group in here.groupby("setting", sort=False):
                name = names[str(setting)]
                title = ", ".join(filter(None, (f"{model} on {task}", name)))
                metric = str(group["metric"].iloc[0])
                found[str(setting)] = Place(title, model, str(task), name, number, metric)
    return found


def columns_of(lines: pd.DataFrame, places: Mapping[str, Place]) -> dict[str, list[Any]]:
    """The columns of lines, joined over seeds or not; lines of unknown places are left out."""
    lines = lines[lines["setting"].isin(list(places))]
    found = {name: [_value(one) for one in lines[name]] for name in COLUMNS}
    numbers = {setting: number for number, setting in enumerate(places)}
    found["place"] = [numbers[setting] for setting in lines["setting"]]
    found["control"] = [method in CONTROLS or method in APART for method in lines["method"]]
    for name in ("seed", "key"):
        found[name] = [_each(one) for one in lines[name]]
    if "seeds" in lines:
        found["seeds"] = lines["seeds"].tolist()
        found["std"] = [_value(one) for one in lines["std"]]
    return found


def _each(value: Any) -> list[Any]:
    """A value of each seed."""
    return list(value) if isinstance(value, list) else [value]


def _value(value: Any) -> Any:
    """A value as JSON has it; None for what was not measured.

    >>> _value(float("nan")), _value(1 / 3), _value("x")
    (None, 0.333333, 'x')
    """
    if isinstance(value, float):
        return rounded(value)
    return value


def rounded(value: float) -> float | None:
    """A number with as many digits as it may be shown with; None for none."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
