"""Frames of results made up for tests."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from unibench import registry
from unibench.frame import COLUMNS
from unibench.report.average import best
from unibench.report.layout import is_cost
from unibench.report.matching import HARNESSES, METRICS, config_name, method_of
from unibench.report.published import rows

SAME = {
    "family": "f", "pixels": "paper", "batch": 1, "dtype": "bfloat16", "attn": "sdpa", "device": "cpu",
    "max_new_tokens": 8,
    "weights": "w", "data": "d", "code": "c", "judge": None, "budget_mode": "at_stage", "budget_scope": "sequence",
    "seed": [0], "ability": "all", "n": 100, "tokens_in": 100.0, "equiv_tokens": 50.0, "seeds": 1, "std": float("nan"), "variant": "",
}  # fmt: skip


def line(**values: Any) -> dict[str, Any]:
    """One line of a frame whose seeds are joined."""
    made = {**SAME, "metric": "score", "main": True, "source": "code", **values}
    made = {**_hashes(made), **made}
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


def _hashes(made: dict[str, Any]) -> dict[str, str]:
    """What the identity of such a line would hash to."""
    parts = {
        "condition": ("model", "weights", "dtype", "attn", "batch", "pixels", "max_new_tokens"),
        "questions": ("task", "harness", "judge", "data"),
        "candidate": ("method", "params", "source", "budget", "budget_mode", "budget_scope"),
    }
    found = {
        name: json.dumps([made[column] for column in columns]) for name, columns in parts.items()
    }
    found["setting"] = found["condition"] + found.pop("questions")
    return {**found, "series": found["setting"] + found["candidate"]}


def frame_of(lines: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=[*COLUMNS, "std", "seeds"])


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
