"""A run killed at any moment continues: nothing lost, nothing twice, the same answers."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TIMES = {"total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms", "run"}


def start(out: Path, limit: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "unibench", "method=fastv", f"task.limit={limit}", f"out={out}"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def answered(out: Path) -> int:
    """Samples in all files, those that are there twice counted twice."""
    return sum(
        line.startswith(b'{"id"')
        for file in out.rglob("samples*.jsonl")
        for line in file.read_bytes().split(b"\n")[:-1]
    )


def finished(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Samples without their times, by method."""
    found = {}
    for file in out.rglob("metrics.json"):
        lines = (file.parent / "samples.jsonl").read_text().splitlines()
        found[json.loads(file.read_text())["method"]] = [
            {key: value for key, value in json.loads(line).items() if key not in TIMES}
            for line in lines
        ]
    return found


def kill_and_rerun(tmp_path: Path, kills: int, limit: int) -> None:
    calm = start(tmp_path / "calm", limit)
    assert calm.wait(300) == 0
    moments = random.Random(0)
    landed = 0
    for _ in range(20 * kills):
        if landed == kills:
            break
        before = answered(tmp_path / "killed")
        process = start(tmp_path / "killed", limit)
        while process.poll() is None and answered(tmp_path / "killed") == before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 2 * limit / (kills * 25)))
        landed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = start(tmp_path / "killed", limit)
    assert last.wait(300) == 0
    assert landed == kills, "the run ended before it could be killed often enough"
    assert finished(tmp_path / "killed") == finished(tmp_path / "calm")
    for samples in finished(tmp_path / "killed").values():
        assert len({sample["id"] for sample in samples}) == len(samples) == limit


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    kill_and_rerun(tmp_path, 10, 300)


@pytest.mark.slow
@pytest.mark.ci_slow
def test_killed_at_three_random_moments(tmp_path: Path) -> None:
    kill_and_rerun(tmp_path, 3, 100)


@pytest.mark.slow
@pytest.mark.ci_slow
def test_interrupted_by_the_user(tmp_path: Path) -> None:
    process = start(tmp_path, 500)
    while answered(tmp_path) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (
        process.returncode == 130 and b"same command continues" in err and b"Traceback" not in err
    )
