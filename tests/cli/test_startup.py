"""Programs of an installed environment import what they like in any order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from unibench import _startup
from unibench.cli import findings

CODE = "import site, sys; {before}site.addsitedir(sys.argv[1]); {more}"


REPAIR = "from unibench._compat import repair_torchvision; repair_torchvision(); "


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("", id="before unibench"),
        # as tests/conftest.py begins, so that every run of the tests shows it too
        pytest.param(REPAIR, id="after its repair", marks=pytest.mark.slow),
    ],
)
def test_torchvision_is_imported_in_any_order(before: str, tmp_path: Path) -> None:
    _startup.install(tmp_path)
    more = f"{before}import torchvision; from torchvision.ops import nms; {REPAIR}"
    code = CODE.format(before="", more=more)
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("before", ["", "sys.modules['unibench'] = None; "], ids=["here", "gone"])
def test_python_starts_without_torch_and_where_unibench_is_gone(
    before: str, tmp_path: Path
) -> None:
    _startup.install(tmp_path)
    code = CODE.format(before=before, more="assert 'torch' not in sys.modules")
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_doctor_names_an_environment_that_needs_the_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = subprocess.CompletedProcess([], 1, "", "RuntimeError: operator nms does not exist\n")
    monkeypatch.setattr(findings, "_run", lambda code: broken)
    finding = findings._torchvision()
    assert not finding.fine and "-m unibench._startup" in finding.said
