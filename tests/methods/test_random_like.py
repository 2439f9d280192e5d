"""Random choice beside a method: at its layers, of as many tokens."""

from __future__ import annotations

import copy

import pytest
import torch

import unibench
from tests.methods._contexts import BESIDES
from tests.support.models import inputs_of, model_of
from unibench import Method, UsageError, registry
from unibench.api import build_method
from unibench.pruning.record import PromptRecord, unpacked

FAMILY = "qwen2_5_vl"


def read(method: Method, seed: int = 0, family: str = FAMILY) -> PromptRecord:
    pruned = unibench.prune(model_of(family), method, ratio=0.667, seed=seed, **BESIDES)
    with pruned as session, torch.no_grad():
        model_of(family)(**copy.deepcopy(inputs_of(family, 0, 2)), use_cache=True)
    (record,) = session.take_records()
    return record


@pytest.mark.parametrize("name", ["fastv", "divprune", "two_stage", "pyramiddrop", "pooling"])
def test_as_many_tokens_enter_each_layer_and_others(name: str) -> None:
    inner = build_method(name)
    plain, drawn = read(inner), read(build_method("random_like", inner=inner))
    assert drawn.processed == plain.processed
    assert drawn.last != plain.last
    assert read(build_method("random_like", inner=inner), seed=1).last != drawn.last


def test_beside_a_cut_before_the_model_it_is_random_pre() -> None:
    like = build_method("random_like", inner=build_method("divprune"))
    assert read(like).last == read(build_method("random_pre")).last


def test_later_cuts_keep_some_of_what_earlier_ones_kept() -> None:
    like = build_method("random_like", inner="pyramiddrop")
    found = read(like)
    assert list(found.processed) == sorted(found.processed, reverse=True)
    assert int(unpacked(found.last, found.visual_tokens).sum()) == found.kept


def test_methods_whose_counts_cannot_be_known_are_refused() -> None:
    for name in ("mustdrop", "prunevid"):
        with pytest.raises(UsageError, match="random_like knows no counts of"):
            read(build_method("random_like", inner=name))


def test_beside_a_method_of_two_its_parts_are_the_defaults_of_that_method() -> None:
    parts = registry.parts_of({"name": "random_like", "inner": "two_stage"})
    assert [card.name for card in parts] == ["random_like", "two_stage", "divprune", "fastv"]
