"""list and show: everything that exists, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from unibench.answers import _MEMORY
from unibench.cli import main


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("methods", "divprune"),
        ("models", "qwen2_5_vl_7b"),
        ("tasks", "synthvqa"),
        ("suites", "suite_stp"),
    ],
)
def test_list(capsys: pytest.CaptureFixture[str], kind: str, expected: str) -> None:
    assert main(["list", kind]) == 0
    assert expected in capsys.readouterr().out
    assert main(["list", kind, "--json"]) == 0
    assert expected in {entry["name"] for entry in json.loads(capsys.readouterr().out)}


def test_show_prints_the_card_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "method", "fastv"]) == 0
    out = capsys.readouterr().out
    for part in ("arXiv 2403.06764", "pkunlp-icler/FastV", '"layer": 2', "ties by lower index"):
        assert part in out


QUICK = [
    ["--help"],
    ["list", "methods"],
    ["show", "model", "llava_1_5_7b"],
    ["plan", "-m", "method=divprune,fastv,two_stage", "ratio=0.667,0.889"],
    ["plan", "method=fastv", "method.layer=100"],
    ["plan", "method=cdpruner", "method.relevance=clip"],
    ["method=visionselector", "model.selector=nowhere.safetensors"],
]


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_quick_verbs_load_no_torch(words: list[str], tmp_path: Path) -> None:
    """Once the cards and answers are in the cache, which another command has filled."""
    code = (
        "import resource, sys; from unibench.cli import main; main({words!r});"
        " used = resource.getrusage(resource.RUSAGE_SELF);"
        " heavy = 'torch' in sys.modules or 'transformers' in sys.modules;"
        " sys.exit(f'heavy {heavy} seconds {used.ru_utime + used.ru_stime}')"
    ).replace("{words!r}", repr([*words]))
    main(words if words[0] in ("--help", "list", "show", "plan") else ["plan", *words])
    _MEMORY.save()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    told = done.stderr.splitlines()[-1].split()
    assert told[:2] == ["heavy", "False"]
    assert float(told[3]) < _torch_seconds()


@cache
def _torch_seconds() -> float:
    """Processor time that this machine takes to import torch alone: what a quick verb spares."""
    code = (
        "import resource, torch; used = resource.getrusage(resource.RUSAGE_SELF);"
        " print(used.ru_utime + used.ru_stime)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return float(done.stdout)
