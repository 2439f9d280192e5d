"""Frames of results made up for tests."""

from __future__ import annotations

import json

import pandas as pd

USUAL = {
    "family": "f",
    "weights": "w",
    "dtype": "bfloat16",
    "attn": "sdpa",
    "batch": "1",
    "pixels": "paper",
    "max_new_tokens": 8,
    "harness": "none",
    "harness_version": None,
    "wrapper": None,
    "judge": None,
    "data": "d",
    "variant": "",
    "params": "{}",
    "source": "c0de",
    "budget_mode": "at_stage",
    "budget_scope": "sequence",
    "device": "cpu",
    "code": "c",
}
PARTS = {
    "condition": ("model", "weights", "dtype", "attn", "batch", "pixels", "max_new_tokens"),
    "questions": ("task", "harness", "judge", "data"),
    "candidate": ("method", "params", "source", "budget", "budget_mode", "budget_scope"),
}


def identified(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with the columns that say what its lines are of, usual ones where it has none, and
    with what the identities of such cells would hash to.
    """
    missing = {name: value for name, value in USUAL.items() if name not in frame}
    full = frame.assign(**missing)
    hashes = {
        part: [json.dumps(values, default=str) for values in full[list(names)].values.tolist()]
        for part, names in PARTS.items()
    }
    candidate, condition = hashes["candidate"], hashes["condition"]
    setting = [one + two for one, two in zip(condition, hashes["questions"], strict=True)]
    series = [one + two for one, two in zip(setting, candidate, strict=True)]
    return full.assign(condition=condition, candidate=candidate, setting=setting, series=series)
