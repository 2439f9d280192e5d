"""What the engine offers methods that look inside the language model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.support.methods import At
from tests.support.models import LAYERS, collate, families, inputs_of, model_of
from tests.support.turns import either_kernel, in_turn
from unibench import Chain, Method, Needs, Selection, StageContext, UsageError
from unibench.api import build_method


def prefill(
    model: Any, method: Method, inputs: dict[str, Any], **budget: Any
) -> unibench.pruning.Session:
    with unibench.prune(model, method, **budget) as session, torch.no_grad():
        model.generate(**copy.deepcopy(inputs), max_new_tokens=2, do_sample=False)
    return session


@in_turn("layer, family, attn", [0, 2, LAYERS - 2], either_kernel)
def test_attention_of_the_layer_about_to_run_is_what_it_then_computes(
    family: str, attn: str, layer: int
) -> None:
    model, samples = model_of(family, attn), [inputs_of(family, 0), inputs_of(family, 1, 2)]
    before: list[Tensor] = []
    after: list[Tensor] = []

    def look(into: list[Tensor]) -> Callable[[StageContext], None]:
        return lambda ctx: into.append(
            torch.cat([ctx.attention(layer), ctx.attention(layer, ctx.instruction)], 1)
        )

    third = (
        At({1: lambda ctx: Selection(torch.arange(0, len(ctx.visual), 3))}) if layer > 1 else At({})
    )
    entering = At({layer: look(before)}, Needs(entering=True))
    method = Chain((third, entering, At({layer + 1: look(after)}, Needs(llm_attention=(layer,)))))
    prefill(model, method, collate(samples))
    assert len(before) == len(after) == 2
    for expected, seen in zip(after, before, strict=True):
        torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-4)


@families
def test_looking_at_the_layer_about_to_run_leaves_no_trace(family: str) -> None:
    model, inputs = model_of(family), inputs_of(family, 0)
    with torch.no_grad():
        plain = model(**copy.deepcopy(inputs)).logits
        with unibench.prune(
            model, At({2: lambda ctx: ctx.attention(2) and None}, Needs(entering=True))
        ):  # type: ignore[func-returns-value]
            pass
        with unibench.prune(model, build_method("pyramiddrop"), ratio=0) as session:
            again = model(**copy.deepcopy(inputs), use_cache=True)
    assert torch.equal(again.logits, plain)
    assert again.past_key_values.get_seq_length(2) == inputs["input_ids"].shape[1]
    assert session.idle


def test_memory_is_of_one_sample_and_one_prompt() -> None:
    model = model_of("llava")
    found: list[list[int]] = []

    def leave(ctx: StageContext) -> None:
        assert not ctx.memory
        ctx.memory["total"] = torch.tensor([ctx.total])

    def read(ctx: StageContext) -> None:
        found.append([int(ctx.memory["total"]), ctx.total])

    method = At({0: leave, 3: read})
    batch = collate([inputs_of("llava", 0, 1), inputs_of("llava", 1, 2)])
    prefill(model, method, batch)
    prefill(model, method, inputs_of("llava", 0, 3), scope="item")
    with unibench.prune(model, method), torch.no_grad():
        for images in (1, 2):
            model(**inputs_of("llava", 0, images))
    assert all(left == seen for left, seen in found)
    assert [seen for _, seen in found] == [16, 32, 16, 16, 16, 16, 32]


def test_keys_and_the_final_norm_are_of_any_rows() -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 0)
    seen: dict[str, Tensor] = {}

    def look(ctx: StageContext) -> None:
        seen["all"] = ctx.keys(1, torch.arange(len(ctx.hidden)))
        seen["visual"], seen["rows"] = ctx.keys(1), ctx.visual
        seen["normed"], seen["hidden"] = ctx.final_norm(ctx.hidden), ctx.hidden

    with unibench.prune(model, At({2: look}, Needs(llm_attention=(1,)))), torch.no_grad():
        cache = model(**inputs, use_cache=True).past_key_values
    assert torch.equal(seen["all"], cache.layers[1].keys[0])
    assert torch.equal(seen["visual"], seen["all"][:, seen["rows"]])
    assert torch.equal(seen["normed"], model.model.language_model.norm(seen["hidden"]))


def test_attention_from_before_another_cut_at_the_same_layer_is_refused() -> None:
    model = model_of("llava")
    method = Chain((build_method("random_intra", layer=2), build_method("fastv", layer=2)), None)
    with pytest.raises(RuntimeError, match="its tokens are not this stage's"):
        prefill(model, method, inputs_of("llava", 0), ratio=0.5)
    # one layer later the same attention is of the tokens that are there
    prefill(
        model,
        Chain((build_method("random_intra", layer=2), build_method("fastv", layer=3))),
        inputs_of("llava", 0),
        ratio=0.5,
    )


def test_a_chain_has_the_requirements_of_its_parts() -> None:
    chain = Chain((build_method("divprune"), build_method("vtw")))
    assert chain.adaptive
    assert not chain.text_aware
    assert (
        Chain((build_method("prumerge"), build_method("fastv"))).wants
        == build_method("prumerge").wants
    )


@families
def test_an_average_is_met_and_one_out_of_reach_is_refused_before_the_model_runs(
    family: str,
) -> None:
    model, inputs = model_of(family), inputs_of(family, 0, 2)
    session = prefill(model, build_method("fastv"), inputs, ratio=0.5, budget_mode="layer_average")
    (record,) = session.take_records()
    assert sum(record.processed) / LAYERS == pytest.approx(record.visual_tokens / 2, abs=0.5)
    with pytest.raises(
        UsageError,
        match=r"64 of 576 visual tokens per layer cannot be reached; the cuts at layer 2 of 6",
    ):
        prefill(model, build_method("fastv"), inputs, ratio=0.889, budget_mode="layer_average")
    with pytest.raises(UsageError, match="Did you mean layer_average"):
        prefill(model, build_method("fastv"), inputs, mode="layer_averag")


@pytest.mark.parametrize("scope", ["sequence", "item"])
def test_the_instruction_follows_the_last_picture_also_where_each_has_a_budget_of_its_own(
    scope: str,
) -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 0, 3)
    seen: list[Tensor] = []
    with (
        unibench.prune(model, At({0: lambda ctx: seen.append(ctx.instruction)}), scope=scope),
        torch.no_grad(),
    ):
        model(**inputs)
    last = int((inputs["input_ids"][0] == 190).nonzero()[-1])
    assert len(seen) == (3 if scope == "item" else 1)
    assert all(
        rows.tolist() == list(range(last + 1, inputs["input_ids"].shape[1])) for rows in seen
    )


@families
@pytest.mark.parametrize(
    "name",
    [
        "dart",
        "fastv",
        "fitprune",
        "mustdrop",
        "pyramiddrop",
        "schedule",
        "sparsevlm",
        "two_stage",
        "vtw",
    ],
)
def test_each_picture_may_have_a_budget_of_its_own(family: str, name: str) -> None:
    model, inputs = model_of(family), inputs_of(family, 0, 3)
    method = build_method(name)
    session = prefill(model, method, inputs, ratio=0.75, scope="item")
    (record,) = session.take_records()
    assert session.prompt is not None
    (items,) = session.prompt.items
    if not method.adaptive:
        assert record.kept == sum(session.budget.keep(len(item)) for item in items)


def test_a_method_that_evicts_says_so_where_there_is_no_cache() -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 0)
    with unibench.prune(model, "mustdrop") as session, torch.no_grad():
        model(**inputs, use_cache=True)
        assert not any("no cache" in note for note in session.notes)
        model(**inputs, use_cache=False)
        assert "no cache: nothing was evicted before decoding" in session.notes


def test_a_layer_that_does_not_exist_is_the_users_mistake() -> None:
    for parameters in ({"layer": 40}, {"layer": -1}):
        with (
            pytest.raises(UsageError, match="has 6 decoder layers|layer=-1: at least 0 wanted"),
            unibench.prune(model_of("llava"), "random_intra", **parameters),
        ):
            pass


@pytest.mark.parametrize("name", ["fastv", "pyramiddrop", "sparsevlm", "mustdrop"])
def test_a_prompt_after_one_that_failed_halfway_is_as_if_it_were_the_first(name: str) -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 0)

    def fail(ctx: StageContext) -> None:
        if not failed:
            failed.append(True)
            raise KeyError("out of memory, say")

    failed: list[bool] = []
    method = Chain((build_method(name), At({4: fail}, Needs(entering=True))))
    with unibench.prune(model, method, ratio=0.5) as session, torch.no_grad():
        with pytest.raises(KeyError):
            model(**inputs)
        again = model(**inputs).logits
        (record,) = session.take_records()
    with unibench.prune(model, build_method(name), ratio=0.5) as session, torch.no_grad():
        assert torch.equal(model(**inputs).logits, again)
    assert session.take_records() == [record]
