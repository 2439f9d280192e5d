"""What must hold for every family, kernel, kind of prompt and batch, whatever the method."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import unibench
from tests.support import reference
from tests.support.methods import (
    Evict,
    Fixed,
    KeepAll,
    MergeLlm,
    MergeVit,
    Pyramid,
    Recording,
    Withdraw,
    every,
)
from tests.support.models import (
    ALONE,
    IMAGE,
    LAYERS,
    VIDEOS,
    assert_beams_of_a_batch_are_those_of_single_samples,
    collate,
    generate,
    inputs_of,
    model_of,
    text_of,
)
from tests.support.turns import KERNELS, either_kernel, in_turn, kernels
from unibench import Chain, Method
from unibench.budget import Budget
from unibench.pruning import Session
from unibench.pruning.eviction import evict
from unibench.pruning.record import unpacked

STEPS = 6
PROMPTS: dict[str, dict[str, Any]] = {
    "image": {"images": 1},
    "images": {"images": 3},
    "video": {"video": True},
}


def read(family: str) -> list[str]:
    """The kinds of prompts that a family reads."""
    return [prompt for prompt in PROMPTS if prompt != "video" or family in VIDEOS]


def asked(name: str, family: str) -> list[tuple[str, str]]:
    """A prompt of each kind with either kernel."""
    return [(prompt, attn) for prompt in read(family) for (attn,) in KERNELS]


# by default each kind of prompt on each of the quick families, with the kernels in turn
prompts = in_turn(
    "prompt, family, attn",
    PROMPTS,
    lambda prompt, family: KERNELS if prompt in read(family) else (),
)

METHODS: dict[str, Method] = {
    "layer0": Fixed({0: every(3, 1)}),
    "layer2": Fixed({2: every(3, 1)}),
    "last": Fixed({LAYERS - 1: every(2)}),
    "schedule": Fixed({1: every(2), 3: every(2), 5: every(2)}),
    "pyramid": Pyramid(),
    "withdraw3": Withdraw(3),
    "withdraw0": Withdraw(0),
    "chain": Chain((Fixed({0: every(2)}), Pyramid((3,)))),
    "merge_vit": MergeVit(),
    "merge_llm": MergeLlm(),
}


def dropped(session: Session, length: int) -> reference.Drops:
    """The tokens that each decoder layer does not see, for the slow reference."""
    assert session.prompt is not None
    drops = {}
    for layer, part in session.prompt.segments.items():
        gone = torch.ones(length, dtype=torch.bool)
        gone[part.origin[0]] = False
        drops[layer] = gone
    return drops


def batch_of(family: str, prompt: str) -> list[dict[str, Any]]:
    return [inputs_of(family, seed, **PROMPTS[prompt]) for seed in range(3)]


@prompts
@pytest.mark.parametrize("batch", ["single", "ragged"])
def test_keep_all_is_bit_identical_to_the_unpatched_model(
    family: str, attn: str, prompt: str, batch: str
) -> None:
    model, samples = model_of(family, attn), batch_of(family, prompt)
    inputs = samples[0] if batch == "single" else collate(samples)
    with torch.no_grad():
        plain = model(**copy.deepcopy(inputs)).logits
    tokens, scores, _ = generate(model, inputs, STEPS)
    with unibench.prune(model, KeepAll()), torch.no_grad():
        assert torch.equal(model(**copy.deepcopy(inputs)).logits, plain)
        again, again_scores, _ = generate(model, inputs, STEPS)
    assert torch.equal(again, tokens)
    assert torch.equal(again_scores, scores)


@prompts
def test_a_cut_at_layer_0_is_the_unpatched_language_model_on_the_kept_embeddings(
    family: str, attn: str, prompt: str
) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, **PROMPTS[prompt])
    with unibench.prune(model, METHODS["layer0"]) as session, torch.no_grad():
        cut = model(**copy.deepcopy(inputs), use_cache=True).logits
    assert session.prompt is not None
    kept = session.prompt.segments[0].origin[0]
    embeds, positions = reference.prompt_of(model, inputs)
    assert 0 < len(kept) < embeds.shape[1]
    seen = reference.given_to_text(model, inputs)
    visual, more = seen.get("visual_pos_masks"), {}
    if visual is not None:  # features for the first layers go with the tokens
        stay = torch.zeros_like(visual).index_fill(1, kept, True)
        more["visual_pos_masks"] = visual[:, kept]
        more["deepstack_visual_embeds"] = [
            features[stay[visual]] for features in seen["deepstack_visual_embeds"]
        ]
    with torch.no_grad():
        text = text_of(model)(
            inputs_embeds=embeds[:, kept],
            position_ids=positions[..., kept],
            attention_mask=torch.ones(1, len(kept), dtype=torch.long),
            use_cache=True,
            **more,
        )
        torch.testing.assert_close(cut, model.lm_head(text.last_hidden_state), atol=1e-5, rtol=1e-5)


@in_turn("name, family, prompt, attn", METHODS, asked, on=2)
def test_generation_equals_the_slow_reference(
    family: str, attn: str, prompt: str, name: str
) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, **PROMPTS[prompt])
    method = Recording(METHODS[name])
    with unibench.prune(model, method) as session:
        tokens, scores, cache = generate(model, inputs, STEPS)
    length = inputs["input_ids"].shape[1]
    drops = dropped(session, length)
    assert drops
    expected, expected_scores = reference.greedy(model, inputs, STEPS, drops, method.merges)
    torch.testing.assert_close(scores[0], expected_scores, atol=3e-4, rtol=3e-4)
    assert tokens[0].tolist() == expected
    for layer in range(LAYERS):
        held = length - int(drops[layer].sum()) if layer in drops else length
        assert cache.layers[layer].get_seq_length() == held + STEPS - 1


@prompts
def test_evicted_cache_entries_are_invisible_to_decoding_only(
    family: str, attn: str, prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, **PROMPTS[prompt])
    method = Recording(Evict())
    length = inputs["input_ids"].shape[1]
    prefill: reference.Drops = {}
    with unibench.prune(model, method) as session:

        def noted(prompt: Any, chooser: Any, cache: Any) -> None:
            prefill.update(dropped(session, length))
            evict(prompt, chooser, cache)

        monkeypatch.setattr("unibench.pruning.session.evict", noted)
        tokens, scores, cache = generate(model, inputs, STEPS)
    expected, expected_scores = reference.greedy(
        model, inputs, STEPS, prefill, method.merges, dropped(session, length)
    )
    torch.testing.assert_close(scores[0], expected_scores, atol=3e-4, rtol=3e-4)
    assert tokens[0].tolist() == expected
    assert cache.layers[0].get_seq_length() < length - int(prefill[0].sum()) + STEPS - 1


@in_turn(
    "name, family, prompt, attn",
    [*METHODS, "evict", "divprune", "fastv", "random_pre", "random_intra"],
    asked,
    on=1,
)
def test_a_ragged_batch_equals_single_samples(
    family: str, attn: str, prompt: str, name: str
) -> None:
    model, samples = model_of(family, attn), batch_of(family, prompt)
    method: Method | str = {**METHODS, "evict": Evict()}.get(name, name)
    with unibench.prune(model, method, ratio=0.7) as session:
        tokens, scores, _ = generate(model, collate(samples), STEPS)
    together = session.take_records()
    for row, sample in enumerate(samples):
        with unibench.prune(model, method, ratio=0.7) as session:
            alone, alone_scores, _ = generate(model, sample, STEPS)
        assert session.take_records() == [together[row]]
        torch.testing.assert_close(scores[row], alone_scores[0], atol=5e-4, rtol=5e-4)
        assert torch.equal(tokens[row], alone[0])


@kernels
def test_a_text_only_prompt_is_untouched(family: str, attn: str) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, images=0)
    plain, scores, _ = generate(model, inputs, STEPS)
    with unibench.prune(model, Chain((MergeVit(), Pyramid((2,))))) as session:
        tokens, again, _ = generate(model, inputs, STEPS)
    assert torch.equal(tokens, plain) and torch.equal(again, scores)
    assert session.take_records()[0].visual_tokens == 0


@kernels
def test_text_only_and_picture_prompts_share_a_batch(family: str, attn: str) -> None:
    model = model_of(family, attn)
    samples = [inputs_of(family, 0, 1), inputs_of(family, 1, 0), inputs_of(family, 2, 2)]
    with unibench.prune(model, METHODS["schedule"]):
        tokens, _, _ = generate(model, collate(samples), STEPS)
    for row, sample in enumerate(samples):
        with unibench.prune(model, METHODS["schedule"]):
            assert torch.equal(tokens[row], generate(model, sample, STEPS)[0][0])


@prompts
@pytest.mark.parametrize("layer", [0, 2])
def test_a_plain_forward_loop_equals_generate(
    family: str, attn: str, prompt: str, layer: int
) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, **PROMPTS[prompt])
    with unibench.prune(model, Fixed({layer: every(3, 1)})), torch.no_grad():
        expected, _, _ = generate(model, inputs, STEPS)
        cache = DynamicCache()
        out = model(
            **copy.deepcopy(inputs), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        tokens = [out.logits[:, -1].argmax(-1)]
        for _ in range(STEPS - 1):
            out = model(input_ids=tokens[-1][:, None], past_key_values=cache, use_cache=True)
            tokens.append(out.logits[:, -1].argmax(-1))
    assert torch.equal(torch.stack(tokens, 1), expected)


@kernels
def test_several_new_tokens_in_one_forward_equal_single_steps(family: str, attn: str) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0)
    new = torch.tensor([[5, 9, 17, 3]])
    with unibench.prune(model, Fixed({0: every(2), 2: every(3, 1)})), torch.no_grad():
        one, many = DynamicCache(), DynamicCache()
        model(**copy.deepcopy(inputs), past_key_values=one, use_cache=True)
        singles = [
            model(input_ids=new[:, i : i + 1], past_key_values=one, use_cache=True).logits
            for i in range(4)
        ]
        model(**copy.deepcopy(inputs), past_key_values=many, use_cache=True)
        together = model(input_ids=new, past_key_values=many, use_cache=True).logits
    torch.testing.assert_close(together, torch.cat(singles, 1), atol=1e-4, rtol=1e-4)


@kernels
def test_two_prompts_in_one_block_do_not_touch_each_other(family: str, attn: str) -> None:
    model, method = model_of(family, attn), Fixed({0: every(2), 2: every(3, 1)})
    samples = [inputs_of(family, seed) for seed in range(2)]
    alone = []
    for sample in samples:
        with unibench.prune(model, method):
            alone.append(generate(model, sample, STEPS)[0])
    with unibench.prune(model, method) as session:
        for sample, expected in zip(samples, alone, strict=True):
            assert torch.equal(generate(model, sample, STEPS)[0], expected)
    assert len(session.take_records()) == 2


@in_turn(
    "name, family, attn",
    ["keep_all", "layer2", "merge_vit", "fastv", "divprune"],
    either_kernel,
    on=1,
)
def test_beam_search_and_generation_without_a_cache(family: str, attn: str, name: str) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0)
    method: Method | str = {**METHODS, "keep_all": KeepAll()}.get(name, name)
    if family in ALONE:
        pytest.skip("refused: beams are a batch")
    ratio = (
        0.0 if name == "keep_all" else 0.6
    )  # a budget takes newline tokens off a method that reads the tower

    def beams(**options: Any) -> Tensor:
        with unibench.prune(model, method, ratio=ratio):
            out: Tensor = model.generate(
                **copy.deepcopy(inputs),
                max_new_tokens=STEPS,
                num_beams=3,
                do_sample=False,
                **options,
            )
            return out

    cached = beams()
    assert torch.equal(beams(use_cache=False), cached)
    if name == "keep_all":
        plain = model.generate(
            **copy.deepcopy(inputs), max_new_tokens=STEPS, num_beams=3, do_sample=False
        )
        assert torch.equal(cached, plain)
    with unibench.prune(model, method, ratio=ratio):
        greedy, _, _ = generate(model, inputs, STEPS)
        uncached, _, _ = generate(model, inputs, STEPS, use_cache=False)
    assert torch.equal(uncached, greedy)


@kernels
def test_beams_of_a_ragged_batch_with_vision_signals(family: str, attn: str) -> None:
    model, samples = model_of(family, attn), batch_of(family, "image")
    with unibench.prune(model, MergeVit()):
        assert_beams_of_a_batch_are_those_of_single_samples(model, samples, STEPS)


@kernels
def test_text_between_images_is_never_pruned_and_each_image_has_its_own_budget(
    family: str, attn: str
) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, images=3)
    visual = inputs["input_ids"][0] == IMAGE
    for scope in ("sequence", "item"):
        with unibench.prune(model, "divprune", ratio=0.75, scope=scope) as session, torch.no_grad():
            model(**copy.deepcopy(inputs))
        assert session.prompt is not None
        kept = session.prompt.segments[0].origin[0]
        assert set((~visual).nonzero()[:, 0].tolist()) <= set(kept.tolist())
        sizes = [len(item) for item in session.prompt.items[0]]
        assert sum(sizes) == int(visual.sum()) and len(sizes) >= 3
        budget = Budget.parse(ratio=0.75)
        rank = visual.cumsum(0) - 1
        stays = rank[kept[visual[kept]]]
        (record,) = session.take_records()
        assert unpacked(record.last, sum(sizes)).nonzero()[:, 0].tolist() == stays.tolist()
        per_item = [
            int(((stays >= item.start) & (stays < item.stop)).sum())
            for item in session.prompt.items[0]
        ]
        if scope == "item":
            assert per_item == [budget.keep(size) for size in sizes]
        assert sum(per_item) == (
            budget.keep(sum(sizes))
            if scope == "sequence"
            else sum(budget.keep(size) for size in sizes)
        )
