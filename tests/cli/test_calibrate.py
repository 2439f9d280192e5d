"""``calibrate``: what it prints can be copied into the next command."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import torch

from unibench.cli import main
from unibench.compose import compose_cells
from unibench.identity import cell_of
from unibench.methods._calibration import Calibration, read
from unibench.methods._prior import load

WORDS = {"vtw": ["first=1", "eta=9"], "fitprune": ["ratio=0.5"], "mustdrop": ["ratio=0.5"]}


each_method = pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=[] if name == "vtw" else [pytest.mark.slow]) for name in WORDS],
)


@cache
def printed(method: str) -> tuple[str, str]:
    """What a calibration says, and the overrides that it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["calibrate", f"method={method}", *WORDS[method], "samples=4"]) == 0
    said, overrides = out.getvalue().splitlines()
    return said, overrides


@each_method
def test_the_numbers_found_are_overrides_of_the_next_run(method: str) -> None:
    said, overrides = printed(method)
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


@each_method
def test_a_file_holds_what_would_have_been_printed_and_is_part_of_the_key(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"{method}.safetensors"
    _, numbers = printed(method)
    words = ["calibrate", f"method={method}", *WORDS[method], "samples=4", f"to={file}"]
    assert main(words) == 0
    override = capsys.readouterr().out.splitlines()[1]
    found = read(file)
    assert found.facts["samples"] == "4" and found.facts["method"] == method
    assert set(found.facts) == {"format", "method", "model", "data", "samples", "code"}
    assert found.made_of == "tiny_qwen2_5_vl, 4 samples"
    words = [f"method={method}", "ratio=0.5", "task.limit=2", "generation.max_new_tokens=2"]
    kept = []
    for more in (shlex.split(override), shlex.split(numbers)):
        out = tmp_path / str(len(kept))
        assert main([*words, *more, f"out={out}"]) == 0
        (samples,) = out.rglob(f"{method}@*/*/samples.jsonl")
        kept.append([json.loads(line)["last"] for line in samples.read_text().splitlines()])
    assert kept[0] == kept[1]
    keys = []
    for value in (0, 1):
        tensors = {name: tensor + value * 0 for name, tensor in found.tensors.items()}
        Calibration(tensors, {**found.facts, "samples": str(value)}).save(file)
        cells = compose_cells([*words, *shlex.split(override)], sweep=False)
        keys.append(cell_of(cells[0]).key)
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("name", "tensors", "facts", "message"),
    [
        ("none", None, {}, "there is no such file; `python -m unibench calibrate method=vtw"),
        ("text", None, {}, "is no safetensors file"),
        ("others", {"recipe": torch.zeros(3)}, {"method": "fitprune"}, "calibration of fitprune"),
        ("alien", {"layer": torch.tensor(3)}, {}, "is no calibration; vtw wants its own"),
        ("shape", {"layer": torch.zeros(3)}, {"method": "vtw"}, "holds layer [3]; vtw reads layer"),
        ("both", {"layer": torch.tensor(3)}, {"method": "vtw"}, "both say where vtw withdraws"),
    ],
)
def test_a_file_that_is_not_the_methods_is_refused_in_one_line(
    name: str,
    tensors: dict[str, torch.Tensor] | None,
    facts: dict[str, str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / f"{name}.safetensors"
    if tensors is not None:
        Calibration(tensors, facts).save(file)
    elif name == "text":
        file.write_text("not tensors")
    more = ["method.layer=2"] if name == "both" else []
    assert main(["method=vtw", f"method.calibration={file}", *more]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


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
