"""``wrap`` and ``unwrap``: pruning without a block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

import unibench
from unibench.errors import UsageError
from unibench.models import LoadedModel


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return unibench.load("tiny_qwen2_5_vl")


def answer(loaded: LoadedModel) -> torch.Tensor:
    inputs = loaded.inputs(["What is drawn?"], [[Image.new("RGB", (224, 224), "red")]])
    generated: torch.Tensor = loaded.model.generate(**inputs, max_new_tokens=4, do_sample=False)
    return generated


def hooks(model: Any) -> int:
    modules = list(model.modules())
    return sum(len(each._forward_pre_hooks) + len(each._forward_hooks) for each in modules)


def test_a_wrapped_model_prunes_like_a_block_until_it_is_unwrapped(loaded: LoadedModel) -> None:
    model = loaded.model
    before, plain = hooks(model), answer(loaded)
    with unibench.prune(model, "divprune", ratio=0.889) as session:
        inside = answer(loaded)
    assert unibench.wrap(model, "divprune", ratio=0.889) is model
    assert torch.equal(answer(loaded), inside)
    assert unibench.unwrap(model).take_records() == session.take_records()
    assert hooks(model) == before and "_unibench_wrapped" not in vars(model)
    assert torch.equal(answer(loaded), plain)


def test_a_model_is_wrapped_once_and_unwrapped_once(loaded: LoadedModel) -> None:
    unibench.wrap(loaded.model, "fastv", keep=9, layer=1)
    with pytest.raises(UsageError, match="wrapped already"):
        unibench.wrap(loaded.model, "divprune", ratio=0.5)
    with pytest.raises(UsageError, match="being pruned"):
        with unibench.prune(loaded.model, "divprune", ratio=0.5):
            pass
    unibench.unwrap(loaded.model)
    with pytest.raises(UsageError, match="not wrapped"):
        unibench.unwrap(loaded.model)


def test_a_mistake_leaves_the_model_as_it_was(loaded: LoadedModel) -> None:
    before = hooks(loaded.model)
    for words in ({}, {"ratio": 2.0}, {"ratio": 0.5, "layr": 2}):
        with pytest.raises(UsageError):
            unibench.wrap(loaded.model, "fastv", **words)
    assert hooks(loaded.model) == before
    unibench.wrap(loaded.model, "vanilla")
    unibench.unwrap(loaded.model)
