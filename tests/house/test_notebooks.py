"""The notebooks run from top to bottom, and show what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tools.notebooks import FOLDER, NOTEBOOKS, cells_of
from unibench.registry import ROOT

QUICK = "a_method_in_ten_lines.ipynb"  # the one that each submission runs
MARKED = [
    pytest.param(name, marks=pytest.mark.ci_slow if name == QUICK else pytest.mark.slow)
    for name in NOTEBOOKS
]


@pytest.mark.parametrize("name", MARKED)
def test_a_notebook_runs_from_top_to_bottom(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tools.notebooks", "--check", name],
        cwd=ROOT.parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_file_is_what_the_tool_makes_with_outputs_and_without_errors(name: str) -> None:
    assert cells_of(FOLDER / name) == NOTEBOOKS[name], "run: python -m tools.notebooks"
    cells: list[dict[str, Any]] = json.loads((FOLDER / name).read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    kinds = {output["output_type"] for output in outputs}
    assert kinds == {"stream", "execute_result"}
    assert any("image/png" in output.get("data", {}) for output in outputs)
