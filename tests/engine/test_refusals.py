"""What cannot be pruned rightly is refused, not pruned wrongly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    DynamicCache,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    Qwen3Config,
)

import unibench
from tests.support import reference
from tests.support.methods import Evict, Fixed, KeepAll, MergeVit, Pyramid, every
from tests.support.models import CLIP, IMAGE, TEXT, collate, families, generate, inputs_of, model_of
from unibench import Chain, Method, Selection, StageContext, UsageError
from unibench.pruning import BudgetError


def with_text_model(text: Any) -> Any:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**CLIP),
        text_config=text,
        image_token_index=IMAGE,
        image_seq_length=16,
    )
    model = LlavaForConditionalGeneration._from_config(config, attn_implementation="sdpa").eval()
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, None
    return model


def assert_equals_slow_reference(text: Any, method: Method) -> None:
    """Scores and tokens of LLaVA with another text model, pruned."""
    model, inputs = with_text_model(text), inputs_of("llava")
    with unibench.prune(model, method) as session:
        tokens, scores, _ = generate(model, inputs)
    assert session.prompt is not None
    drops = {}
    for layer, part in session.prompt.segments.items():
        drops[layer] = torch.ones(inputs["input_ids"].shape[1], dtype=torch.bool)
        drops[layer][part.origin[0]] = False
    expected, expected_scores = reference.greedy(model, inputs, tokens.shape[1], drops)
    torch.testing.assert_close(scores[0], expected_scores, atol=2e-4, rtol=2e-4)
    assert tokens[0].tolist() == expected


@pytest.mark.parametrize(
    "text",
    [MistralConfig(**TEXT, sliding_window=None), Qwen3Config(**TEXT, head_dim=16)],
    ids=["mistral", "qwen3"],
)
def test_other_text_models_equal_the_slow_reference(text: Any) -> None:
    assert_equals_slow_reference(text, Chain((Fixed({0: every(2)}), Pyramid((2, 4)))))


def test_batches_of_a_family_whose_code_mixes_their_pictures() -> None:
    model, samples = (
        model_of("llava_onevision_1_5"),
        [dict(inputs_of("llava_onevision_1_5", seed)) for seed in range(2)],
    )
    with (
        pytest.raises(UsageError, match="batch_size=1"),
        unibench.prune(model, "divprune", ratio=0.5),
        torch.no_grad(),
    ):
        model(**collate(samples))


def test_a_window_of_every_layer_counts_places() -> None:
    """Mistral's decoder, whose cut equals the slow reference with the same window."""
    text = MistralConfig(**TEXT, sliding_window=8)
    assert_equals_slow_reference(text, Fixed({0: every(2), 2: every(2)}))


def test_attention_of_a_layer_with_a_window() -> None:
    model = with_text_model(MistralConfig(**TEXT, sliding_window=8))
    with (
        pytest.raises(UsageError, match="does not attend to everything"),
        unibench.prune(model, Pyramid((3,))),
    ):
        pass


def test_caches_with_windows_give_nothing_up() -> None:
    model = with_text_model(MistralConfig(**TEXT, sliding_window=8))
    with pytest.raises(UsageError, match="full attention"), unibench.prune(model, Evict()):
        pass


def test_static_caches() -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    with (
        pytest.raises(UsageError, match="dynamic cache"),
        unibench.prune(model, Fixed({2: every(2)})),
    ):
        model.generate(
            **copy.deepcopy(inputs),
            max_new_tokens=3,
            cache_implementation="static",
            disable_compile=True,
        )


def test_padding_on_the_right() -> None:
    batch = collate([inputs_of("llava", 0), inputs_of("llava", 1)])
    for key in ("input_ids", "attention_mask"):
        batch[key] = batch[key].flip(1)
    with (
        pytest.raises(UsageError, match="left"),
        unibench.prune(model_of("llava"), "divprune", ratio=0.5),
        torch.no_grad(),
    ):
        model_of("llava")(**batch)


def test_a_picture_in_the_continuation_of_a_cached_prompt() -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    cache = DynamicCache()
    with unibench.prune(model, Fixed({2: every(2)})), torch.no_grad():
        model(input_ids=torch.tensor([[5, 6]]), past_key_values=cache, use_cache=True)
        longer = {
            **inputs,
            "attention_mask": torch.ones(1, inputs["input_ids"].shape[1] + 2, dtype=torch.long),
        }
        with pytest.raises(UsageError, match="continuation"):
            model(**longer, past_key_values=cache, use_cache=True)


@pytest.mark.parametrize(
    ("keep", "message"),
    [([0, 0], "twice"), ([0, 99], "outside"), ([-1, 3], "outside")],
    ids=["twice", "too high", "negative"],
)
def test_selections_that_are_none(keep: list[int], message: str) -> None:
    with (
        pytest.raises(ValueError, match=message),
        unibench.prune(model_of("llava"), Fixed({2: lambda count: torch.tensor(keep)})),
    ):
        generate(model_of("llava"), inputs_of("llava"))


def test_a_model_with_a_compiled_part() -> None:
    """A wrapper of the whole, as ``torch.compile`` gives it back, runs as it is."""
    compiled = copy.deepcopy(model_of("llava"))
    compiled.model.language_model.compile()
    with pytest.raises(UsageError, match="compile"), unibench.prune(compiled, KeepAll()):
        pass
    with unibench.prune(torch.compile(model_of("llava"), backend="eager"), KeepAll()):
        pass


def test_a_stage_beyond_the_model() -> None:
    with (
        pytest.raises(UsageError, match="6 decoder layers"),
        unibench.prune(model_of("llava"), Fixed({99: every(2)})),
    ):
        pass


def test_a_method_that_misses_its_budget_fails_the_run() -> None:
    class Half(Method):
        def select(self, ctx: StageContext) -> Selection:
            return Selection(torch.arange(len(ctx.visual) // 2))

    class Free(Half):
        adaptive = True

    with (
        pytest.raises(BudgetError, match="kept 8 of 16 visual tokens; the budget is 4"),
        unibench.prune(model_of("llava"), Half(), ratio=0.75),
    ):
        generate(model_of("llava"), inputs_of("llava"))
    with unibench.prune(model_of("llava"), Free(), ratio=0.75) as session:
        generate(model_of("llava"), inputs_of("llava"))
    assert session.take_records()[0].kept == 8


def test_a_method_whose_needs_no_family_meets() -> None:
    class Hopeful(Method):
        wants = frozenset({"crystal_ball"})

    with (
        pytest.raises(UsageError, match="crystal_ball"),
        unibench.prune(model_of("llava"), Hopeful(), ratio=0.5),
    ):
        pass


def test_a_vision_layer_beyond_the_tower() -> None:
    with (
        pytest.raises(UsageError, match="tower with 3 blocks"),
        unibench.prune(model_of("llava"), MergeVit(-9), ratio=0.5),
    ):
        pass


@families
def test_half_precision_keeps_identity_and_stays_finite(family: str) -> None:
    model = copy.deepcopy(model_of(family)).to(torch.bfloat16)
    inputs = inputs_of(family)
    tokens, scores, _ = generate(model, inputs)
    with unibench.prune(model, KeepAll()):
        again, again_scores, _ = generate(model, inputs)
    assert torch.equal(again, tokens) and torch.equal(again_scores, scores)
    seen: list[torch.dtype] = []

    class Watch(Method):
        def select(self, ctx: StageContext) -> Selection:
            seen.append(ctx.visual_hidden.dtype)
            return Selection(torch.arange(ctx.keep))

    with unibench.prune(model, Watch(), ratio=0.5):
        assert torch.isfinite(generate(model, inputs)[1]).all()
    assert set(seen) == {torch.float32}
