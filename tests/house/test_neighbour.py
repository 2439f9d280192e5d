"""Another project owns the name on the index, and extras may be missing: both are said in a line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from unibench.cli import main
from unibench.cli.main import other_unibench


def installed(folder: Path, name: str, summary: str) -> None:
    (folder / f"{name}.dist-info").mkdir()
    text = f"Metadata-Version: 2.4\nName: unibench\nSummary: {summary}\n\nThe page.\n"
    (folder / f"{name}.dist-info" / "METADATA").write_text(text)


def test_the_other_project_of_the_name_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(tmp_path, "unibench-0.4.0", "Evaluation of vision-language models")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert main(["--version"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "unibench-0.4.0" in line and "pip uninstall unibench" in line


def test_an_earlier_installation_of_this_one_is_no_neighbour(tmp_path: Path) -> None:
    installed(tmp_path, "unibench-0.1.0", "Fair comparison of visual token pruning in ...")
    installed(tmp_path, "unibench_pruning-0.2.0", "Fair comparison of visual token pruning in ...")
    assert other_unibench([str(tmp_path), "", str(tmp_path / "nowhere")]) is None


def test_a_missing_extra_is_said_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "unibench.cli.plotting", None)
    monkeypatch.delitem(sys.modules, "unibench.cli.plotting")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot", "ratio"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith('pip install "unibench-pruning[report]"')
