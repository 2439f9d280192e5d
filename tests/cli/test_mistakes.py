"""A user's mistake is one clear line per mistake, exit code 2, no traceback, nothing loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unibench.cli import main


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["method=divprun"], "unknown method 'divprun'. Did you mean divprune?"),
        (["model=qwen2_5_vl_7"], "unknown model 'qwen2_5_vl_7'. Did you mean qwen2_5_vl_7b?"),
        (["task=synthvq"], "unknown task 'synthvq'. Did you mean synthvqa?"),
        (["ratio=88.9"], "Did you mean 0.889?"),
        (["ratio=1"], "ratio=1 is outside [0, 1)"),
        (["keep=64", "ratio=0.5"], "state the budget once"),
        (
            ["method=fastv", "method.lyer=3"],
            "unknown key 'method.lyer'. Did you mean method.layer?",
        ),
        (["method=fastv", "method.layer=two"], "method.layer=two: int wanted, for example 2"),
        (["method=idpruner", "method.mmr_lambda=nan"], "method.mmr_lambda=nan: float wanted"),
        (["seed=one"], "seed=one"),
        (["out=caf\udce9"], "out=caf\\udce9 is no UTF-8"),
        (["plan", "out=\ud800"], "out=\\ud800 is no UTF-8"),
        (["seed=-1"], "seed=-1 is too small"),
        (["sed=1"], "unknown key 'sed'. Did you mean seed?"),
        (["model.attn=flash"], "unknown model.attn 'flash'. Did you mean flash_attention_2?"),
        (["model.dtype=int4"], "unknown model.dtype 'int4'"),
        (
            ["pixels=papr", "model=qwen2_5_vl_7b"],
            "unknown pixels of model qwen2_5_vl_7b 'papr'. Did you mean paper?",
        ),
        (["ratio=0.5,0.7"], "ratio=0.5,0.7 is a list: add -m"),
        (["ratio"], "unknown verb 'ratio'"),
        (["ratio=[1,2"], "cannot read 'ratio=[1,2'"),
        (["method=./nowhere.py:Mine"], "there is no file"),
        (["model.path=/nowhere"], "there is no config.json in /nowhere"),
        (["task=folder", "task.data=/nowhere"], "there is no such folder"),
        (["task.limit=0"], "task.limit=0 is too small"),
        (["model.processor_path="], "model.processor_path= is empty"),
        (["model.processor_path=/usr"], "there is no tokenizer_config.json in it"),
        (["doctor", "run="], "run= needs the folder of a cell"),
        (["model.device=foo"], "model.device=foo is no device; for example auto, cpu"),
        (["model.device=cuda:-1"], "model.device=cuda:-1 is no device"),
        (
            ["-m", "task=mme", "harness=vlmevalkit", "convention=harness,foo"],
            "unknown convention 'foo'",
        ),
        (["budget.scope=frame"], "unknown budget.scope 'frame'"),
        (["--verbose"], "unknown option --verbose"),
        (["--ratio=0.5"], "unknown option --ratio. Did you mean ratio=0.5?"),
        (["plan", "--method", "divprune"], "--method. Did you mean method=divprune?"),
        (["plan", "--method"], "unknown option --method. Did you mean method=...?"),
        (["--ratio", "0.5"], "unknown option --ratio. Did you mean ratio=0.5?"),
        (["ratio", "=", "0.5"], "overrides are written without spaces: ratio=0.5"),
        (["ratio = 0.5"], "overrides are written without spaces: ratio=0.5"),
        (["list", "methods", "--match", "divv*"], "unknown method 'divv*'. Known: aim"),
        (["method", "divprune"], "overrides are written without spaces: method=divprune"),
        (["show", "divprune"], "for example python -m unibench show method divprune"),
        (["lst", "methods"], "unknown verb 'lst'. Did you mean list?"),
        (["list", "method"], "Did you mean methods?"),
        (["show", "method", "divprun"], "Did you mean divprune?"),
        (["store", "mend", "x"], "unknown store action 'mend'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_clear_line(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    err = failed(capsys, *words)
    assert expected in err
    assert len(err.strip().splitlines()) == 1


def test_all_mistakes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    err = failed(capsys, "method=divprun", "ratio=88.9", "task.limit=0", "sed=1")
    assert len(err.strip().splitlines()) == 4


def test_mistakes_of_a_grid_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    err = failed(capsys, "-m", "method=divprune,fastv,nope", "ratio=0.5,0.7,70")
    assert len(err.strip().splitlines()) == 2


def test_a_checkpoint_of_another_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    err = failed(capsys, "model=qwen2_5_vl_7b", f"model.path={tmp_path}")
    assert "holds a 'llava' checkpoint" in err and "qwen2_5_vl" in err


def test_a_checkpoint_that_cannot_be_had_names_itself_and_the_ways_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = failed(capsys, "model=qwen2_5_vl_7b", "method=divprune", "ratio=0.889", f"out={tmp_path}")
    for part in (
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "model.path=",
        "model.weights=random",
        "hf download",
    ):
        assert part in err
    assert len(err.strip().splitlines()) == 1


def test_a_layer_that_the_model_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = failed(capsys, "method=fastv", "method.layer=40", "task.limit=1", f"out={tmp_path}")
    assert "FastV cuts at layer 40, but the model has 5 decoder layers" in err


def test_values_that_only_the_method_can_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = failed(capsys, "method=two_stage", "method.split=2", f"out={tmp_path}")
    assert "method.split=2" in err and not list(tmp_path.iterdir())
    assert "Did you mean divprune?" in failed(capsys, "method=two_stage", "method.pre=divprun")


def test_a_kernel_that_is_not_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = failed(capsys, "model.attn=flash_attention_2", f"out={tmp_path}")
    assert "pip install flash-attn" in err and len(err.strip().splitlines()) == 1


def test_a_method_that_a_family_cannot_serve_says_which_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "cls.py"
    mine.write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom unibench import"
        " Method\n\n\n@dataclass(frozen=True)\nclass Cls(Method):\n    requires:"
        " ClassVar[frozenset[str]] = frozenset({'cls_token'})\n"
    )
    err = failed(capsys, f"method={mine}:Cls")
    assert "needs cls_token" in err and "internvl" in err and "llava" in err


def test_an_option_that_a_task_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = failed(capsys, "+task.options.colour=red", f"out={tmp_path}")
    assert "colour" in err and len(err.strip().splitlines()) == 1


def test_an_unreadable_picture_names_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "questions.jsonl").write_text(
        '{"image": "a.png", "question": "What?", "answer": "x"}\n'
    )
    (tmp_path / "a.png").write_bytes(b"no picture")
    err = failed(capsys, "task=folder", f"task.data={tmp_path}", f"out={tmp_path / 'out'}")
    assert "line 1: cannot read the picture a.png" in err


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    err = failed(capsys, "task.limit=2", f"out={tmp_path / 'taken'}")
    assert "same command continues" in err
