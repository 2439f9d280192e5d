"""Frames of results made up for tests."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from tests.support.frames import USUAL, identified
from unibench import registry
from unibench.frame import COLUMNS
from unibench.report.average import best
from unibench.report.layout import is_cost
from unibench.report.matching import HARNESSES, METRICS, config_name, method_of
from unibench.report.published import rows

SAME = {
    **USUAL,
    "seed": [0],
    "ability": "all",
    "n": 100,
    "tokens_in": 100.0,
    "equiv_tokens": 50.0,
    "seeds": 1,
    "std": float("nan"),
}


def line(**values: Any) -> dict[str, Any]:
    """One line of a frame whose seeds are joined."""
    made = {**SAME, "metric": "score", "main": True, **values}
    made.setdefault(
        "key",
        [
            json.dumps(
                [made[name] for name in ("model", "method", "params", "budget", "task", "metric")]
            )
        ],
    )
    made.setdefault("folder", made["key"])
    return made


def frame_of(lines: list[dict[str, Any]]) -> pd.DataFrame:
    columns = [*COLUMNS, "std", "seeds"]
    return (
        identified(pd.DataFrame(lines, columns=columns)) if lines else pd.DataFrame(columns=columns)
    )


def printed(name: str) -> pd.DataFrame:
    """The scores that a paper prints, as if we had measured them."""
    lines = []
    for row in rows(name):
        if row.duplicate:
            continue
        method, wanted = method_of(row)
        params = json.dumps(
            {
                **{
                    key: value
                    for key, value in registry.method(method).parameters.items()
                    if value is not registry.REQUIRED
                },
                **wanted,
            }
        )
        kept = float(row.retention or "nan")
        same = {
            "model": config_name(row.model),
            "method": method,
            "params": params,
            "harness": HARNESSES[row.harness],
            "budget": str(row.kept),
            "ratio": 1 - kept,
        }
        for column, value in row.values.items():
            if column[0] != "avg" and not is_cost(column):
                metric = METRICS.get(column, column[1])  # as a card with several metrics has them
                score = 100 * float(value.text) / best(*column)
                lines.append(
                    line(
                        **same,
                        task=column[0],
                        metric=metric,
                        main=metric == column[1],
                        score_100=score,
                    )
                )
    return frame_of(lines)
