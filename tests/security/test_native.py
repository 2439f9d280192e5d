"""A harness's own model object loads a checkpoint under the same rules as our loader: whole, of this
folder, without code of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from tests.security.test_checkpoints import DAMAGE, TINY_FOLDER, edited, with_code, with_tensors
from tests.support.checkpoints import spec_of
from unibench.errors import UsageError
from unibench.harness.child.native import loading_as, source_of, trusting
from unibench.models._template import STEPS, bounded
from unibench.registry import ROOT

FAMILY = "qwen2_5_vl"
WITHIN = (
    "no UTF-8",
    "a text for a mapping",
    "a text for a number",
    "words",
)  # told by transformers
TEMPLATES = [name for name in DAMAGE if "template" in name or name in ("calling itself", "large range")]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "checkpoint"
    shutil.copytree(str(TINY_FOLDER), place)
    return place


@pytest.mark.parametrize("what", [name for name in DAMAGE if name not in (*WITHIN, *TEMPLATES)])
def test_files_that_are_not_what_they_seem_are_refused_before_the_object_sees_them(
    what: str, folder: Path
) -> None:
    damage, words = DAMAGE[what]
    damage(folder)
    with pytest.raises(UsageError) as error:
        source_of(spec_of(FAMILY, path=str(folder)))
    said = str(error.value)
    assert "\n" not in said and all(word in said for word in words), said


LOADERS: dict[str, Any] = {
    "a configuration": AutoConfig,
    "a processor": AutoProcessor,
    "a tokenizer": AutoTokenizer,
    "an image processor": AutoImageProcessor,
    "a model": AutoModelForImageTextToText,
    "a model of a text": AutoModelForCausalLM,
}


@pytest.mark.parametrize("loader", LOADERS)
def test_an_object_that_trusts_a_checkpoint_does_not_run_its_code(
    loader: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = with_code(folder)
    monkeypatch.setattr("builtins.input", lambda text="": pytest.fail("it asks"))
    with loading_as(spec_of(FAMILY, path=str(folder))):
        with suppress(ValueError):  # of what transformers has no class of its own
            LOADERS[loader].from_pretrained(str(folder), trust_remote_code=True)
    assert not marker.exists()


def test_code_runs_where_the_user_said_so(folder: Path) -> None:
    original = AutoConfig.from_pretrained
    with trusting(spec_of(FAMILY, path=str(folder), trust_remote_code=True)):
        assert AutoConfig.from_pretrained == original
    with trusting(spec_of(FAMILY, path=str(folder))):
        assert AutoConfig.from_pretrained != original
    assert AutoConfig.from_pretrained == original


def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    tensors[name].view(-1)[3] = float("nan")
    return tensors


def lack(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if "layers.1.mlp" not in name}


WEIGHTS = {"lacks": lack, "infinite or none (NaN)": spoil}


@pytest.mark.parametrize("word", WEIGHTS)
def test_weights_that_are_missing_or_no_numbers_are_named(word: str, folder: Path) -> None:
    with_tensors(folder, WEIGHTS[word])
    spec = spec_of(FAMILY, path=str(folder))
    with loading_as(spec), pytest.raises(UsageError, match="layers.1.mlp") as error:
        AutoModelForImageTextToText.from_pretrained(source_of(spec))
    assert word in str(error.value)


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
LATER = "{% if 'Answer' in messages|string %}" + ENDLESS + "{% endif %}x"  # not at the first look


@pytest.mark.parametrize("caller", ["processor", "tokenizer"])
def test_a_template_that_ends_at_first_and_later_not_is_stopped(caller: str, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(LATER)
    processor = AutoProcessor.from_pretrained(folder)
    applied = (processor if caller == "processor" else processor.tokenizer).apply_chat_template
    with bounded("the model's chat template"):
        assert applied([{"role": "user", "content": "?"}], tokenize=False) == "x"
        with pytest.raises(UsageError, match=f"stopped after {STEPS} steps"):
            applied([{"role": "user", "content": "Answer with one word."}], tokenize=False)


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "whole": (lambda at: None, "loaded"),
    "code": (with_code, "loaded"),
    "lacking": (lambda at: with_tensors(at, lack), "UsageError: model=tiny_qwen2_5_vl lacks"),
    "spoiled": (lambda at: with_tensors(at, spoil), "UsageError: model=tiny_qwen2_5_vl holds numbers"),
    "kernel": (lambda at: edited(at / "config.json", _attn_implementation="a/b"), "UsageError: "),
    "endless": (lambda at: (at / "chat_template.jinja").write_text(ENDLESS), "UsageError: "),
    "pointer": (DAMAGE["pointer of weights"][0], "UsageError: "),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("harness", ["lmms_eval", "vlmevalkit"])
def test_the_harness_s_own_model_object_refuses_what_our_loader_refuses(
    harness: str, tmp_path: Path
) -> None:
    if find_spec({"lmms_eval": "lmms_eval", "vlmevalkit": "vlmeval"}[harness]) is None:
        pytest.skip(f"{harness} is not installed here")
    for name, (damage, _) in CASES.items():
        place = tmp_path / "checkpoints" / name
        shutil.copytree(str(TINY_FOLDER), place)
        damage(place)
    subprocess.run(
        [sys.executable, "-m", "tests.security._native", harness, tmp_path / "checkpoints", tmp_path / "report.json"],
        cwd=ROOT.parent, env={**os.environ, "PYTHONPATH": str(ROOT.parent)}, check=True,
    )  # fmt: skip
    found = json.loads((tmp_path / "report.json").read_text())
    for name, (_, start) in CASES.items():
        assert found[name].startswith(start), found
    assert not (tmp_path / "checkpoints" / "code" / "MARKER").exists()
