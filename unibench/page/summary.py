"""What a page says first: what was run, on what, for how long, by whom, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from unibench import __version__
from unibench import frame as frames
from unibench.errors import shown as printable
from unibench.page.lines import rounded
from unibench.store.listing import listed

FAILURES = 50  # that are named; more are counted
HOUR = 3600.0


def summary(
    frame: pd.DataFrame, left_out: Mapping[Path, str], store: Path | None
) -> dict[str, Any]:
    """The summary as JSON.

    Args:
        frame: finished cells, not joined over seeds.
        left_out: damaged cells.
        store: that they are of; None if it is not to be looked through.
    """
    cells = frames.whole(frame)
    sizes = cells.groupby("task", sort=False)["n"].agg(["min", "max"])
    found: dict[str, Any] = {
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": __version__,
        "out": printable(store) if store else "",
        "cells": len(cells),
        "samples": int(cells["n"].sum()),
        "hours": rounded(float(cells["total_s"].sum()) / HOUR),
        "timed": int(cells["total_s"].notna().sum()),
        "tasks": [[task, int(low), int(high)] for task, low, high in sizes.itertuples()],
        "left_out": len(left_out),
        **{name: _values(cells, name) for name in ("model", "device", "code", "harness")},
        "seeds": sorted({int(seed) for seed in cells["seed"]}),
    }
    return found | (_of_store(store) if store else {})


def _of_store(store: Path) -> dict[str, Any]:
    """When, where and by whom, and which cells are not finished."""
    entries = listed(store, {})
    done = [one for one in entries if one.state == "done"]
    failed = [one for one in entries if one.state == "failed"]
    titles = [
        [f"{one.model} {one.method} {one.budget} {one.task}, seed {one.seed}", one.why]
        for one in failed[:FAILURES]
    ]
    dates = sorted(one.date for one in done)
    return {
        "dates": [dates[0], dates[-1]] if dates else [],
        "hosts": sorted({one.host for one in done if one.host}),
        "users": sorted({one.user for one in done if one.user}),
        "partial": sum(one.state == "partial" for one in entries),
        "failed": len(failed),
        "failures": titles,
    }


def _values(cells: pd.DataFrame, name: str) -> list[str]:
    return [str(value) for value in cells[name].dropna().unique() if str(value)]
