"""Outside the block the model is as it was, also after an error."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch

import unibench
from tests.support.methods import Fixed, MergeVit, Pyramid
from tests.support.models import families, generate, inputs_of, model_of
from unibench import Chain, UsageError
from unibench.pruning._transformers import own_entries


def fingerprint(model: Any) -> list[Any]:
    files = sorted({type(module).__module__ for module in model.modules()})
    eager = {
        name: sys.modules[name].eager_attention_forward
        for name in files
        if hasattr(sys.modules[name], "eager_attention_forward")
    }
    hooks = [
        (
            name,
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            "forward" in module.__dict__,
        )
        for name, module in model.named_modules()
    ]
    own = sorted(key for key in model.model.__dict__ if not key.startswith("_"))
    return [
        hooks,
        own,
        own_entries(),
        eager,
        list(model.state_dict()),
    ]


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@families
def test_nothing_is_left_behind(family: str, attn: str) -> None:
    model, inputs = model_of(family, attn), inputs_of(family)
    with torch.no_grad():
        plain = model(**copy.deepcopy(inputs)).logits
    tokens, scores, _ = generate(model, inputs)
    before = fingerprint(model)
    with unibench.prune(model, Chain((MergeVit(), Pyramid((2,))))):
        generate(model, inputs)
    assert fingerprint(model) == before
    with pytest.raises(ZeroDivisionError), unibench.prune(model, Fixed({2: lambda count: 1 // 0})):  # type: ignore[dict-item,return-value]
        generate(model, inputs)
    assert fingerprint(model) == before
    with torch.no_grad():
        assert torch.equal(model(**copy.deepcopy(inputs)).logits, plain)
    again, again_scores, _ = generate(model, inputs)
    assert torch.equal(again, tokens) and torch.equal(again_scores, scores)


def test_signals_are_forgotten_with_the_prompt() -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    with unibench.prune(model, MergeVit()) as session:
        generate(model, inputs)
        assert session.idle and session.prompt is not None


@pytest.mark.parametrize("where", ["vision", "language"])
def test_a_prompt_that_fails_halfway_leaves_nothing_for_the_next(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    with unibench.prune(model, MergeVit()):
        expected, _, _ = generate(model, inputs)
    with unibench.prune(model, MergeVit()) as session:
        part = model.model.vision_tower if where == "vision" else model.model.language_model.norm
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(part, "forward", lambda *args, **kwargs: 1 // 0)
            generate(model, inputs)
        assert not session.take_times()
        if where == "language":
            assert session.idle
        tokens, _, _ = generate(model, inputs_of("llava", 1, images=2))
        tokens, _, _ = generate(model, inputs)
        assert session.idle and torch.equal(tokens, expected)
        assert len(session.take_times()) == len(session.take_records()) == 2


def test_a_model_is_pruned_by_one_block_at_a_time() -> None:
    model = model_of("llava")
    with unibench.prune(model, "divprune", ratio=0.5):
        with pytest.raises(UsageError, match="already"), unibench.prune(model, "fastv", ratio=0.5):
            pass
    with unibench.prune(model, "fastv", ratio=0.5):
        generate(model, inputs_of("llava"))
