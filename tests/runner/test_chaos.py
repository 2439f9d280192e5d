"""Workers killed at random moments, again and again: every cell complete, nothing lost, nothing
twice, equal answers.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from unibench.registry import ROOT

METHODS = (
    "divprune,fastv,random_pre,random_intra,cls_topk,dart,l2norm,dpp,stp,uniform_grid,"
    "knorm,gprune,greedy_diversity,greedy_importance,keep_borders,naive_hybrid,tome,scope,visionzip,pyramiddrop"
)
TIMES = {"total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms", "run", "beside"}
ROW_OF_A_RUN = {
    "total_s",
    "vision_ms",
    "prefill_ms",
    "method_ms",
    "decode_ms_per_token",
    "folder",
    "device",
    "code",
    "peak_mib",
}


class Size(NamedTuple):
    """Of a chaos: cells without vanilla are methods x ratios; more is said to the command; a worker
    lives ``pause`` seconds at most after a further sample was seen.
    """

    methods: str
    ratios: str
    samples: int
    workers: int
    kills: int
    more: tuple[str, ...] = ()
    pause: float = 1.5


def command(out: Path, size: Size, workers: int) -> list[str]:
    grid = [
        "-m",
        f"method={size.methods}",
        f"ratio={size.ratios}",
        f"task.limit={size.samples}",
        f"out={out}",
        *size.more,
    ]
    return [sys.executable, "-m", "unibench", "work", *grid, "--processes", str(workers)]


def start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT.parent)},
    )


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, fields = stat.read_text().rpartition(")")
        except OSError:
            continue
        if int(fields.split()[1]) == parent and fields.split()[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def workers_of(parent: int) -> list[int]:
    """Worker processes: children of the fork server, which is a child of the command."""
    return [worker for server in children(parent) for worker in children(server)]


def answered(out: Path) -> int:
    found = 0
    for file in out.rglob("samples*.jsonl"):
        try:
            found += file.read_bytes().count(b'\n{"id"') + file.read_bytes().startswith(b'{"id"')
        except FileNotFoundError:  # merged meanwhile
            continue
    return found


def results(out: Path) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Row and samples of each cell by its key, without what depends on time and place."""
    found = {}
    for file in out.rglob("metrics.json"):
        row = {
            key: value
            for key, value in json.loads(file.read_text()).items()
            if key not in ROW_OF_A_RUN
        }
        lines = (file.parent / "samples.jsonl").read_text().splitlines()
        found[row["key"]] = (
            row,
            [
                {key: value for key, value in json.loads(line).items() if key not in TIMES}
                for line in lines
            ],
        )
    return found


def killed_often(out: Path, size: Size, log: Path) -> int:
    """Run the grid to its end, killing a random worker at random moments; every tenth time all of
    them and their parent.
    """
    moments = random.Random(0)
    command_line = command(out, size, size.workers)
    process, kills, before, begin = start(command_line), 0, 0, time.monotonic()
    with log.open("a") as lines:
        while (code := process.poll()) is None:
            time.sleep(0.02)
            count = answered(out)
            if kills >= size.kills or count <= before:
                continue
            time.sleep(moments.uniform(0, size.pause))
            victims = workers_of(process.pid)
            everyone = kills % 10 == 9
            hit = victims if everyone else moments.sample(victims, min(1, len(victims)))
            if everyone:
                process.kill()
            for victim in hit:
                os.kill(victim, signal.SIGKILL)
            kills += bool(hit)
            print(
                f"{time.monotonic() - begin:7.1f} s  kill {kills:3d}:"
                f" {'parent and ' * everyone}{hit}, {count} samples",
                file=lines,
                flush=True,
            )
            if everyone:
                process.wait()
                process = start(command_line)
            before = answered(out)
        print(
            f"{time.monotonic() - begin:7.1f} s  exit code {code} after {kills} kills,"
            f" {answered(out)} samples",
            file=lines,
        )
    assert code == 0
    return kills


def chaos(tmp_path: Path, size: Size) -> None:
    assert start(command(tmp_path / "calm", size, 2)).wait(3600) == 0
    log = Path(os.environ.get("UNIBENCH_CHAOS_LOG", tmp_path / "chaos.log"))
    assert killed_often(tmp_path / "killed", size, log) >= size.kills, (
        "the grid ended before its workers could be killed often enough"
    )
    calm, killed = results(tmp_path / "calm"), results(tmp_path / "killed")
    assert len(calm) == len(size.methods.split(",")) * len(size.ratios.split(",")) + 1
    assert killed == calm
    for _, samples in killed.values():
        assert len({sample["id"] for sample in samples}) == len(samples) == size.samples
    leftovers = [
        file
        for file in (tmp_path / "killed").rglob("*")
        if file.name.startswith(("claim-", "done-", "split", "samples-"))
    ]
    assert not leftovers
    with log.open("a") as lines:
        print(
            f"{len(killed)} cells of {size.samples} samples: complete, none lost, none twice, equal"
            " to an undisturbed run",
            file=lines,
        )


@pytest.mark.slow
def test_sixty_cells_fifty_kills(tmp_path: Path) -> None:
    chaos(tmp_path, Size(METHODS, "0.667,0.778,0.889", 30, 3, 50))


@pytest.mark.slow
@pytest.mark.ci_slow
def test_a_few_cells_a_few_kills(tmp_path: Path) -> None:
    chaos(tmp_path, Size("divprune,fastv,random_pre", "0.5,0.889", 20, 3, 4))


@pytest.mark.slow
def test_fifty_kills_of_cells_that_are_answered_together(tmp_path: Path) -> None:
    # eight shards, so that two workers find something to do in one grid; a sample is answered in
    # all cells at once, so that a fast machine would be through before it is killed often enough
    fused = ("timing=false", "fuse=cells", "shards=8")
    chaos(tmp_path, Size(METHODS, "0.667,0.778,0.889", 120, 2, 50, fused, pause=0.3))
