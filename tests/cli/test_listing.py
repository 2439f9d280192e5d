"""list and show: everything that exists, without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(
    "words", [["--help"], ["list", "methods"], ["show", "model", "llava_1_5_7b"]]
)
def test_quick_verbs_load_no_torch(words: list[str]) -> None:
    code = (
        f"import sys; from unibench.cli import main; main({words!r}); sys.exit('torch' in"
        " sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
