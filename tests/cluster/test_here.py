"""The engines that need nothing but this machine: joblib and submitit's local one, as launchers and
by ``submit``.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster._grid import FIVE, answers, assert_equal, complete, unibench, wait_for, words
from tests.harness.standins import write
from tests.runner.test_chaos import results

pytestmark = pytest.mark.slow
pytest.importorskip("submitit")
Log = Callable[[str], None]
LAUNCHERS = {
    "joblib": ("hydra.launcher.n_jobs=2",),
    "submitit_local": ("hydra.launcher.timeout_min=30",),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_runs_a_sweep(launcher: str, tmp_path: Path, calm_five: Path, log: Log) -> None:
    unibench(*words(FIVE, tmp_path), f"hydra/launcher={launcher}", *LAUNCHERS[launcher])
    assert_equal(tmp_path, calm_five, 5)
    assert len(list(tmp_path.glob(".submitted/*/multirun.yaml"))) == 1, (
        "Hydra has not run the sweep"
    )
    log(f"hydra/launcher={launcher}: five cells, all but times equal to a run in one process")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_runs_benchmarks_of_a_harness(launcher: str, tmp_path: Path, log: Log) -> None:
    write(tmp_path / "data", "vlmevalkit", ["POPE"], 8)
    grid = (
        "-m",
        "task=pope",
        "harness=vlmevalkit",
        f"task.data={tmp_path / 'data'}",
        "method=divprune,fastv",
        "generation.max_new_tokens=8",
    )
    unibench(*words(grid, tmp_path / "out"), f"hydra/launcher={launcher}", *LAUNCHERS[launcher])
    unibench(*words(grid, tmp_path / "calm"))
    assert_equal(tmp_path / "out", tmp_path / "calm", 3)
    log(
        f"hydra/launcher={launcher}: POPE in VLMEvalKit, three cells, all but times equal to a run"
        " in one process"
    )


def test_submitted_workers_share_the_shards_of_one_cell(tmp_path: Path, log: Log) -> None:
    cell = ("method=vanilla", "task.limit=80", "model.threads=1")
    begin = time.monotonic()
    run = unibench(
        "submit", *words(cell, tmp_path / "out"), "shards=8", "cluster=local", "--workers", "2"
    )
    assert re.search(r"^job \d+, \d+: 2 workers on local", run.stdout, re.MULTILINE), run.stdout
    assert not complete(tmp_path / "out", 1), "the command has waited"
    log(f"local: submit came back after {time.monotonic() - begin:.1f} s")
    wait_for(lambda: complete(tmp_path / "out", 1))
    unibench(*words(cell, tmp_path / "calm"))
    assert_equal(tmp_path / "out", tmp_path / "calm", 1)
    (found,) = results(tmp_path / "out").values()
    said = [file.read_text() for file in tmp_path.rglob("*_log.err")]
    assert len(said) == 2 and all("vanilla" in text for text in said), "one worker had all shards"
    log(f"local: two workers shared the 8 shards of one cell of {len(found[1])} samples")


def test_a_worker_is_queued_again_at_the_end_of_its_time(tmp_path: Path, log: Log) -> None:
    long = ("method=vanilla", "task.limit=30000", "model.threads=1")
    run = unibench("submit", *words(long, tmp_path), "cluster=local", "--minutes", "2")
    said = wait_for(lambda: next(tmp_path.rglob("*_log.out"), None), 60)
    wait_for(lambda: "Requeued job" in said.read_text(), 150)
    count = len(answers(tmp_path))
    assert count
    wait_for(lambda: len(answers(tmp_path)) > count, 180)
    log(
        f"local: before its two minutes were over the worker ended with {count} samples, was"
        " started again and went on"
    )
    found = re.search(r"^job (\d+)", run.stdout, re.MULTILINE)
    assert found
    os.kill(int(found[1]), signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{found[1]}").exists(), 60)
    assert len(set(answers(tmp_path))) == len(answers(tmp_path)), "a sample was answered twice"
