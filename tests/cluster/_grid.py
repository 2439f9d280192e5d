"""Forty cells of a tiny model, and who works on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.runner.test_chaos import results
from unibench.registry import ROOT
from unibench.store import cells_below, read_samples

METHODS = "divprune,fastv,random_pre,random_intra,cls_topk,dart,l2norm,dpp,stp,uniform_grid,knorm,greedy_importance,tome"
FORTY = (
    "-m",
    f"method={METHODS}",
    "ratio=0.667,0.778,0.889",
    "task.limit=6",
    "model.threads=1",
)  # vanilla is the fortieth
FIVE = ("-m", "method=divprune,fastv", "ratio=0.5,0.889", "task.limit=6", "model.threads=1")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT.parent), "OMP_NUM_THREADS": "1", **more}


def unibench(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command that has to succeed."""
    run = subprocess.run(
        [sys.executable, "-m", "unibench", *words],
        capture_output=True,
        text=True,
        env=env or environment(),
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run


class Held(NamedTuple):
    """A claim and the process that holds it."""

    folder: Path
    pid: int
    samples: int


def mid_cell(out: Path, limit: int) -> list[Held]:
    """Who has answered some samples of a cell, but not all."""
    found = []
    for claim in out.rglob("claim-0-of-1.*"):
        try:
            pid = int(json.loads(claim.read_bytes().partition(b"\n")[2])["pid"])
        except (OSError, ValueError):  # being written, or gone
            continue
        answered = sum(
            file.read_bytes().count(b'{"id"')
            for file in claim.parent.glob("samples-*.jsonl")
            if file.exists()
        )
        if 0 < answered < limit - 1:
            found.append(Held(claim.parent, pid, answered))
    return found


def answers(out: Path) -> list[bytes]:
    """The ids of the samples of unfinished cells, those that are there twice twice."""
    lines = [
        line for file in out.rglob("samples-*.jsonl") for line in file.read_bytes().splitlines()
    ]
    return [line.partition(b",")[0] for line in lines if line.startswith(b'{"id"')]


def environ_of(pid: int) -> dict[str, str]:
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(pair.decode(errors="replace").split("=", 1) for pair in pairs if b"=" in pair)


def wait_for(what: Callable[[], Any], seconds: float = 600) -> Any:
    """What it returns, once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not become true in {seconds} s")


def complete(out: Path, cells: int) -> bool:
    return len(list(out.rglob("metrics.json"))) == cells


def assert_equal(one: Path, other: Path, cells: int) -> None:
    """Every number but times is equal, every sample is there once, and no claim is left."""
    found = results(one)
    assert len(found) == cells and found == results(other)
    for folder in cells_below(one):
        samples, _ = read_samples(folder)
        assert len(samples) == len((folder / "samples.jsonl").read_text().splitlines())
    assert not list(one.rglob("claim-*"))


def words(grid: Sequence[str], out: Path) -> list[str]:
    return [*grid, f"out={out}"]
