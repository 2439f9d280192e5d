"""Each greedy loop as one Triton kernel, in Triton's interpreter: the same picks as the plain loop.

The interpreter is chosen when Triton is imported, so it runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import torch

from tests.golden._cases import mapped
from unibench import ops
from unibench.ops import kernels
from unibench.registry import ROOT

LOOPS = ("max_min", "max_min preferred", "farthest", "mmr", "rep_max")
# golden folders of methods whose selection is a greedy loop, and the loop
FOLDERS = {
    "divprune": "max_min",
    "greedy_diversity": "max_min",
    "naive_hybrid": "max_min",
    "stp": "max_min",
    "idpruner": "mmr",
    "trimtokenator": "rep_max",
    "cdpruner": "determinantal",
    "dpp": "determinantal",
    "two_stage": "max_min",
}


@cache
def interpreted(*what: str) -> dict[str, Any]:
    """What the process printed."""
    # earlier interpreters do not run with numpy 2.4, the kernels themselves do from 3.6 on
    pytest.importorskip("triton", minversion="3.9", reason="pip install triton==3.9.0")
    run = subprocess.run(
        [sys.executable, "-m", "tests.gpu.interpreted", *what],
        cwd=ROOT.parent,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("kind", ["noise", "ties", "broken"])
def test_every_loop_picks_the_same_on_drawn_rows(kind: str) -> None:
    found = {name: equal for name, equal in interpreted("drawn").items() if f", {kind}, " in name}
    assert {name.split(",")[0] for name in found} >= set(LOOPS)
    assert [name for name, equal in found.items() if not equal] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_golden_cases_are_picked_alike_and_by_the_kernel(folder: str) -> None:
    found = interpreted("golden", *FOLDERS).items()
    mine = {name: used for name, used in found if name.startswith(f"{folder}/")}
    assert mine and ["picks differ"] not in mine.values()
    assert any(FOLDERS[folder] in used for used in mine.values())


def test_received_attention_by_the_kernel_is_the_mean_of_the_whole_map() -> None:
    found = interpreted("signals")
    assert len(found) == 3
    assert {name: apart for name, apart in found.items() if not apart < 1e-5} == {}


@pytest.mark.slow
def test_all_golden_cases_are_picked_alike() -> None:
    found = interpreted("golden")
    assert {name.split("/")[0] for name in found} == set(mapped())
    assert [name for name, used in found.items() if used == ["picks differ"]] == []


def test_a_kernel_that_stands_aside_leaves_the_plain_loop() -> None:
    apart = 1 - ops.cosine(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    asked = []

    def aside(*given: object) -> None:
        asked.append(given)

    with kernels.installed({"max_min": aside}):
        picks = ops.max_min(apart, 4)
    assert len(asked) == 1 and torch.equal(picks, ops.max_min(apart, 4))


def test_kernels_serve_inside_their_block_only() -> None:
    apart = 1 - ops.cosine(torch.eye(4))
    mine = torch.tensor([3, 1])
    with kernels.installed({"max_min": lambda *given: mine}):
        with kernels.installed({"mmr": lambda *given: None}):
            assert ops.max_min(apart, 2) is mine
    assert ops.max_min(apart, 2) is not mine
