"""``--cfg`` and ``--info`` print what Hydra composes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.compose.test_overrides import own_method
from unibench.cli import main
from unibench.compose import compose_cells


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> object:
    capsys.readouterr()
    assert main(words) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_the_configuration_of_a_cell_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, "method=divprune", "ratio=0.889", "--cfg", "job")
    assert isinstance(shown, dict) and list(shown)[:3] == ["model", "method", "task"]
    assert shown["method"] == {"name": "divprune"} and shown["ratio"] == 0.889


def test_a_part_of_it_is_printed_as_it_is_written_or_resolved(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("method=idpruner", "keep=9", "model.selector=./scorer.pt", "--cfg", "job")
    node = printed(capsys, *words, "--package", "method")
    assert isinstance(node, dict) and node["selector_path"] == "${model.selector}"
    node = printed(capsys, *words, "--package", "method", "--resolve")
    assert isinstance(node, dict) and node["selector_path"] == "./scorer.pt"
    assert printed(capsys, *words, "--package", "keep") == 9


def test_a_method_of_ones_own_is_composed_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = own_method(tmp_path / "a=b", "Mine", 7)
    words = [f"method={place}", "method.bias=8"]
    node = printed(capsys, *words, "--cfg", "job", "--package", "method")
    (cell,) = compose_cells(words, sweep=False)
    assert node == cell.method == {"name": "mine", "source": place, "bias": 8}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cfg", "jobs"], "unknown --cfg 'jobs'. Did you mean job?"),
        (["--cfg", "job", "--package", "nothing"], "package 'nothing' not found"),
        (["--cfg", "job", "sed=1"], "sed"),
        (["--cfg", "job", "-m", "seed=1,2"], "mean 2 cells"),
        (["--info", "default"], "unknown --info 'default'. Did you mean defaults?"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_what_hydra_knows_is_printed_wherever_the_option_stands() -> None:
    for words in (["--info", "method=idpruner"], ["method=idpruner", "--info", "defaults"]):
        command = [sys.executable, "-m", "unibench", *words]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "method/idpruner" in run.stdout and "Defaults List" in run.stdout
