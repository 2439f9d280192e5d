"""``calibrate``: what it prints can be copied into the next command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from unibench.cli import main
from unibench.compose import compose_cells
from unibench.methods._prior import load

WORDS = {"vtw": ["first=1", "eta=9"], "fitprune": ["ratio=0.5"], "mustdrop": ["ratio=0.5"]}


@pytest.mark.parametrize("method", WORDS)
def test_the_numbers_found_are_overrides_of_the_next_run(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", f"method={method}", *WORDS[method], "samples=4"]) == 0
    said, overrides = capsys.readouterr().out.splitlines()
    assert "4 samples beyond those of the task's limit" in said
    (cell,) = compose_cells([f"method={method}", *shlex.split(overrides)], sweep=False)
    assert all(
        cell.method[re.sub("=.*", "", line).removeprefix("method.")] is not None
        for line in shlex.split(overrides)
    )


def test_a_prior_is_written_and_taken_by_the_next_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prior.safetensors"
    assert main(["calibrate", "method=d2pruner", f"to={file}", "samples=2"]) == 0
    said, override = capsys.readouterr().out.splitlines()
    assert "a prior of 12 x 12 tokens" in said
    prior = load(str(file))
    assert prior.facts["samples"] == "2" and prior.facts["data"].startswith("synthvqa")
    assert set(prior.facts) >= {"model", "data", "code", "layer", "format"}
    words = ["method=d2pruner", *shlex.split(override), "ratio=0.5", "task.limit=1"]
    assert main([*words, f"out={tmp_path / 'outputs'}"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=d2pruner"], "writes a file: to=prior.safetensors"),
        (["method=divprune"], "unknown method to calibrate 'divprune'"),
        (["method=vtw", "samples=few"], "samples=few: a whole number is wanted"),
        (["method=vtw", "samples=0"], "samples=0 is too small"),
        (["method=fitprune", "keep=4", "samples=1"], "calibrate wants a share"),
    ],
)
def test_mistakes_of_calibrate_are_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_task_without_further_samples_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "method=vtw", "task=folder", f"task.data={tmp_path}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
