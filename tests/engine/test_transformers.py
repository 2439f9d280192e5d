"""The private parts of transformers and torch that the engine uses are there and do what it assumes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.support.models import inputs_of, model_of, text_of
from unibench.cost.operations import Operations, unseen
from unibench.models._checkpoint import load_whole
from unibench.pruning._transformers import (
    attention_of,
    cache_in,
    cached,
    checked_generation,
    is_compiled,
    own_entries,
    wrapped_attention,
)
from unibench.registry import ROOT


def attentions(family: str, attn: str) -> list[torch.nn.Module]:
    return [layer.self_attn for layer in text_of(model_of(family, attn)).layers]


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "smolvlm"])
def test_every_call_of_attention_goes_through_the_wrapper(family: str, attn: str) -> None:
    calls: list[torch.nn.Module] = []

    def noting(attention: Callable[..., Any]) -> Callable[..., Any]:
        def noted(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            calls.append(module)
            return attention(module, *args, **kwargs)

        return noted

    modules = attentions(family, attn)
    assert {attention_of(module) for module in modules} == {attn}
    before = own_entries()
    with wrapped_attention(modules, noting), torch.no_grad():
        model_of(family, attn)(**inputs_of(family))
    assert [module for module in calls if module in modules] == modules
    assert own_entries() == before
    assert "noted" not in sys.modules[type(modules[0]).__module__].eager_attention_forward.__name__


def test_the_cache_of_a_forward_is_found_under_the_name_that_transformers_gives_it() -> None:
    model, inputs, found = model_of("llava"), inputs_of("llava"), []

    def look(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        found.append(cache_in(kwargs))

    handle = text_of(model).register_forward_pre_hook(look, with_kwargs=True)
    try:
        out = model.generate(**inputs, max_new_tokens=3, return_dict_in_generate=True)
    finally:
        handle.remove()
    assert found[0] is found[1] is found[2] is cache_in(out) is not None
    with torch.no_grad():
        text = text_of(model)(inputs_embeds=torch.zeros(1, 3, 64), use_cache=True)
    assert cache_in(text) is not None
    assert cache_in({}) is None and cache_in({"past_key_values": None}) is None


def test_a_function_of_the_users_own_comes_back() -> None:
    original = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def own(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    ALL_ATTENTION_FUNCTIONS["sdpa"] = own
    try:
        with wrapped_attention(attentions("llava", "sdpa"), lambda attention: lambda *_: None):
            assert ALL_ATTENTION_FUNCTIONS["sdpa"] is not own
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is own
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is original


def test_torchs_counter_shows_the_operators_that_it_has_no_formula_for() -> None:
    x = torch.randn(5, 7)
    with Operations() as outer:
        with unseen(), Operations() as inner:
            (x + 1) @ x.T
        x.exp()
    assert (inner.products, inner.others) == (2 * 5 * 5 * 7, 35)
    assert (outer.products, outer.others) == (0, 35)


def test_a_class_of_ones_own_reads_the_names_of_tensors_that_its_parent_reads() -> None:
    class Mine(Qwen2_5_VLForConditionalGeneration):  # type: ignore[misc]
        pass

    source = str(ROOT / "models" / "tiny" / "qwen2_5_vl")
    theirs = load_whole(Qwen2_5_VLForConditionalGeneration, source, "theirs").state_dict()
    mine = load_whole(Mine, source, "mine").state_dict()
    assert theirs.keys() == mine.keys()
    assert all(torch.equal(theirs[name], mine[name]) for name in theirs)


def test_a_cache_says_what_a_layer_has_read_and_what_it_still_holds() -> None:
    from transformers import DynamicCache, Gemma3TextConfig

    config = Gemma3TextConfig(
        num_hidden_layers=2, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
    )
    cache, states = DynamicCache(config=config), torch.zeros(1, 1, 7, 8)
    assert cached(cache, 0) == cached(cache, 1) == (0, 0)
    for layer in (0, 1):
        cache.update(states, states, layer)
    # a window's cache keeps what the next token sees beside itself
    assert cached(cache, 0) == (7, 3) and cached(cache, 1) == (7, 7)


def test_generate_hands_its_settings_to_the_check_and_is_itself_again() -> None:
    model, inputs, seen = model_of("llava"), inputs_of("llava"), []

    def check(config: Any, mode: str) -> None:
        seen.append((config.max_new_tokens, mode))

    with checked_generation(model, check):
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
    model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert seen == [(2, "greedy_search")]


def test_a_compiled_model_and_a_model_with_a_compiled_part_are_told() -> None:
    parts = [torch.nn.Sequential(torch.nn.Linear(2, 2)) for _ in range(3)]
    parts[1][0].compile()
    assert [is_compiled(part) for part in parts] == [False, True, False]
    assert is_compiled(torch.compile(parts[2]))  # type: ignore[arg-type]
