"""Every way of calling a model inside the block is right, or refused by its name."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

import unibench
from tests.engine.test_decoding import Third
from tests.support.methods import Fixed, every
from tests.support.models import Bare, generate, inputs_of, model_of
from unibench import UsageError
from unibench.pruning._transformers import own_entries

FAMILY, STEPS = "qwen2_5_vl", 5
methods = pytest.mark.parametrize("method", ["divprune", "fastv", "pyramiddrop"])


@contextmanager
def pruned(method: Any = "divprune", family: str = FAMILY) -> Iterator[tuple[Any, Any]]:
    model = model_of(family)
    with unibench.prune(model, method, ratio=0.6) as session:
        yield model, session


def read(model: Any, inputs: Any, **options: Any) -> tuple[Any, DynamicCache]:
    """Logits of a prompt, and the cache that holds it."""
    cache = DynamicCache()
    with torch.no_grad():
        out = model(**copy.deepcopy(inputs), past_key_values=cache, use_cache=True, **options)
    return out.logits[:, -1], cache


def step(model: Any, cache: DynamicCache, token: Any, **options: Any) -> Tensor:
    """Logits after one more token."""
    ids = torch.as_tensor(token).reshape(1, -1)
    with torch.no_grad():
        out = model(input_ids=ids, past_key_values=cache, use_cache=True, **options)
    logits: Tensor = out.logits[:, -1]
    return logits


def continued(model: Any, prompts: list[Any]) -> list[list[Tensor]]:
    """Logits of prompts that are read one after the other and then continued in turns."""
    pair = [read(model, prompt) for prompt in prompts]
    found = [[logits] for logits, _ in pair]
    for _ in range(3):
        for (_, cache), logits in zip(pair, found, strict=True):
            logits.append(step(model, cache, logits[-1].argmax()))
    return found


@pytest.mark.parametrize("family", [FAMILY, "llava"])
@methods
def test_two_caches_are_continued_in_turns(method: str, family: str) -> None:
    prompts = [inputs_of(family, 0), inputs_of(family, 1, 2)]
    with pruned(method, family) as (model, _):
        alone = [continued(model, [prompt])[0] for prompt in prompts]
        together = continued(model, prompts)
    for expected, found in zip(alone, together, strict=True):
        torch.testing.assert_close(found, expected)


def test_what_is_reread_goes_with_each_cache() -> None:
    prompts = [inputs_of(FAMILY, 0), inputs_of(FAMILY, 1, 2)]
    with pruned(Third(every_step=True)) as (model, _):
        alone = [continued(model, [prompt])[0] for prompt in prompts]
        method = Third(every_step=True)
    with pruned(method) as (model, _):
        together = continued(model, prompts)
    assert [int(ctx.memory["steps"]) for ctx in method.seen[-2:]] == [3, 3]
    for expected, found in zip(alone, together, strict=True):
        torch.testing.assert_close(found, expected)


@methods
def test_a_copy_of_a_cache_is_continued_like_the_cache(method: str) -> None:
    with pruned(method) as (model, _):
        _, cache = read(model, inputs_of(FAMILY))
        twin = copy.deepcopy(cache)
        expected = step(model, cache, 5)
        step(model, cache, 6)
        torch.testing.assert_close(step(model, twin, 5), expected)


def test_prompts_without_a_cache_take_turns() -> None:
    prompts = [inputs_of(FAMILY, seed) for seed in (0, 1)]
    asked: list[str] = []

    class Watch(unibench.Method):
        def score(self, ctx: unibench.StageContext) -> Tensor:
            asked.append(ctx.sample)
            return ctx.visual_hidden.sum(1)

    with pruned(Watch()) as (model, session), torch.no_grad():
        for prompt in prompts:
            model(**copy.deepcopy(prompt), use_cache=False)
        named = set(asked)
        for grown in (1, 2):
            for prompt in prompts:
                ids = torch.nn.functional.pad(prompt["input_ids"], (0, grown), value=7)
                model(input_ids=ids, use_cache=False)
        assert len(session.take_records()) == 2
    assert len(named) == 2 and set(asked) == named, "what was dropped stays dropped"


@methods
def test_two_threads_read_two_prompts_at_once(method: str) -> None:
    prompts = [inputs_of(FAMILY, 0), inputs_of(FAMILY, 1, 2)]
    with pruned(method) as (model, session):
        expected = [generate(model, prompt, STEPS)[0] for prompt in prompts]
        session.take_records()
        for _ in range(2):
            found: dict[int, Any] = {}
            start = threading.Barrier(2)

            def answer(row: int, found: dict[int, Any] = found, start: Any = start) -> None:
                start.wait()
                found[row] = generate(model, prompts[row], STEPS)[0]

            threads = [threading.Thread(target=answer, args=(row,)) for row in (0, 1)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [torch.equal(found[row], expected[row]) for row in (0, 1)] == [True, True]
        assert len(session.take_records()) == 4


def test_blocks_of_two_models_may_end_in_any_order() -> None:
    before, llava = own_entries(), model_of("llava")
    first, second = (
        unibench.prune(model, "fastv", ratio=0.6) for model in (model_of(FAMILY), llava)
    )
    with first:
        session = second.__enter__()
    try:
        generate(llava, inputs_of("llava"), 2)
        assert len(session.take_records()) == 1, "the signals of the block that goes on are seen"
    finally:
        second.__exit__(None, None, None)
    assert own_entries() == before


# -- refused by name


def assisted(model: Any) -> None:
    generate(model, inputs_of(FAMILY), 3, prompt_lookup_num_tokens=2)


def drafted(model: Any) -> None:
    generate(model, inputs_of(FAMILY), 3, assistant_model=copy.deepcopy(ASSISTANT))


def in_chunks(model: Any) -> None:
    generate(model, inputs_of(FAMILY), 3, prefill_chunk_size=9)


def embedded(model: Any) -> None:
    inputs = inputs_of(FAMILY)
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    mask = inputs["attention_mask"]
    model.generate(inputs_embeds=embeds.detach(), attention_mask=mask, max_new_tokens=2)


def text_model_alone(model: Any) -> None:
    model.model.language_model(inputs_embeds=torch.zeros(1, 3, 64))


def labelled(model: Any) -> None:
    inputs = inputs_of(FAMILY)
    model(**inputs, labels=inputs["input_ids"])


def copied(model: Any) -> None:
    copy.deepcopy(model)


def copied_in_part(model: Any) -> None:
    copy.deepcopy(model.model.language_model)


def saved_whole(model: Any) -> None:
    torch.save(model, io.BytesIO())


def cropped(model: Any) -> None:
    _, cache = read(model, inputs_of(FAMILY))
    step(model, cache, 5)
    for layer in cache.layers[:3]:
        layer.keys, layer.values = layer.keys[:, :, :-1], layer.values[:, :, :-1]
    step(model, cache, 6)


def masked_otherwise(model: Any) -> None:
    _, cache = read(model, inputs_of(FAMILY))
    long = inputs_of(FAMILY)["input_ids"].shape[1] + 3
    step(model, cache, 5, attention_mask=torch.ones(1, long, dtype=torch.long))


def rows_chosen(model: Any) -> None:
    _, cache = read(model, inputs_of(FAMILY))
    cache.batch_repeat_interleave(2)
    with torch.no_grad():
        model(input_ids=torch.tensor([[5], [6]]), past_key_values=cache, use_cache=True)


def second_turn(model: Any) -> None:
    inputs = inputs_of(FAMILY)
    out = model.generate(**copy.deepcopy(inputs), max_new_tokens=2, return_dict_in_generate=True)
    ids = torch.cat([out.sequences, torch.tensor([[7, 8]])], 1)
    model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        past_key_values=out.past_key_values,
        max_new_tokens=2,
    )


def padded_inside(model: Any) -> None:
    inputs = copy.deepcopy(inputs_of(FAMILY))
    inputs["attention_mask"][0, 2] = 0
    model(**inputs)


def checkpointed(model: Any) -> None:
    model.gradient_checkpointing_enable()
    model.train()
    try:
        model(**inputs_of(FAMILY))
    finally:
        model.eval()
        model.gradient_checkpointing_disable()


ASSISTANT = model_of(FAMILY, seed=1)
REFUSED: list[tuple[Callable[[Any], None], str]] = [
    (assisted, "assisted decoding"),
    (drafted, "assisted decoding"),
    (in_chunks, "in chunks"),
    (embedded, "inputs_embeds"),
    (text_model_alone, "input_ids"),
    (labelled, "labels"),
    (copied, "copied"),
    (copied_in_part, "copied"),
    (saved_whole, "pickled"),
    (cropped, "this cache is not as the last forward left it"),
    (masked_otherwise, "this cache is not as the last forward left it"),
    (rows_chosen, "this cache is not as the last forward left it"),
    (second_turn, "continuation"),
    (padded_inside, "padded on the left"),
    (checkpointed, "gradient_checkpointing_disable"),
]


@pytest.mark.parametrize(("way", "said"), REFUSED, ids=[way.__name__ for way, _ in REFUSED])
def test_what_pruning_cannot_follow_is_refused_by_name(
    way: Callable[[Any], None], said: str
) -> None:
    with pruned() as (model, _):
        expected, _, _ = generate(model, inputs_of(FAMILY), 3)
        with pytest.raises(UsageError, match=said):
            way(model)
        again, _, _ = generate(model, inputs_of(FAMILY), 3)
    assert torch.equal(again, expected), "what was refused leaves nothing behind"
    assert len(list(copy.deepcopy(model).parameters())) == len(list(model.parameters()))


def test_a_cache_of_another_block_is_refused() -> None:
    with pruned() as (model, _):
        _, cache = read(model, inputs_of(FAMILY))
    with pruned() as (model, _), pytest.raises(UsageError, match=r"another prune\(\) block"):
        step(model, cache, 5)


def test_a_cache_from_before_the_block_is_continued_as_it_is() -> None:
    model = model_of(FAMILY)
    _, cache = read(model, inputs_of(FAMILY))
    twin = copy.deepcopy(cache)
    expected = step(model, cache, 5)
    with pruned():
        torch.testing.assert_close(step(model, twin, 5), expected)


def test_the_unpruned_model_takes_labels() -> None:
    model, inputs = model_of(FAMILY), inputs_of(FAMILY)
    with torch.no_grad():
        expected = model(**copy.deepcopy(inputs), labels=inputs["input_ids"]).loss
        with unibench.prune(model, "vanilla"):
            assert model(**copy.deepcopy(inputs), labels=inputs["input_ids"]).loss == expected


# -- surroundings


@pytest.mark.parametrize("method", ["divprune", "fastv", Fixed({0: every(2), 2: every(3, 1)})])
def test_a_gradient_reaches_the_pixels_of_what_is_kept(method: Any) -> None:
    with pruned(method) as (model, _):
        inputs = copy.deepcopy(inputs_of(FAMILY))
        pixels = inputs["pixel_values"].requires_grad_()
        model(**inputs).logits[0, -1].logsumexp(-1).backward()
        model.zero_grad()
    assert pixels.grad is not None
    reached = pixels.grad.abs().sum(1) > 0
    assert bool(reached.any())
    if method == "divprune":  # attention inside the tower mixes windows, not pictures
        assert bool(torch.isfinite(pixels.grad).all())


def test_a_gradient_through_merged_tokens_is_refused_where_it_is_taken() -> None:
    for family, method in ((FAMILY, "prumerge"), ("llava", "tome")):
        with pruned(method, family) as (model, _):
            inputs = copy.deepcopy(inputs_of(family))
            inputs["pixel_values"].requires_grad_()
            logits = model(**inputs).logits  # without a backward pass nothing is wrong
            with pytest.raises(UsageError, match="no gradient"):
                logits[0, -1].logsumexp(-1).backward()
            model.zero_grad()


@pytest.mark.parametrize(
    "method", ["divprune", "cdpruner", "dpp", "stp", "trimtokenator", "prumerge", "fastv", "scope"]
)
def test_scores_are_made_in_full_precision_under_autocast(method: str) -> None:
    seen: list[torch.dtype] = []

    class Watch(unibench.Method):
        def score(self, ctx: unibench.StageContext) -> Tensor:
            states = ctx.visual_hidden
            seen.append((states @ states.T).dtype)
            return states.sum(1)

    model, inputs = model_of(FAMILY), inputs_of(FAMILY)
    with torch.autocast("cpu", torch.bfloat16):
        with unibench.prune(model, method, ratio=0.6, processor=Bare()) as session:
            generate(model, inputs, 2)
            assert len(session.take_records()) == 1
        with unibench.prune(model, Watch(), ratio=0.6):
            generate(model, inputs, 2)
            assert torch.is_autocast_enabled("cpu")
    assert set(seen) == {torch.float32}


def test_a_function_that_was_compiled_before_runs_as_it_is() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    inner = Twice()
    compiled = torch.compile(inner, backend="eager")
    assert compiled(torch.ones(1)) == 2
    with pruned():
        handle = inner.register_forward_hook(lambda *_: torch.zeros(1))
        assert compiled(torch.ones(1)) == 0, "a graph from before would not know the hook"
        handle.remove()
    assert compiled(torch.ones(1)) == 2


@pytest.mark.parametrize("wrapper", ["adapter", "data_parallel", "nested"])
def test_a_wrapper_that_passes_calls_on_is_the_model_inside(wrapper: str) -> None:
    class Adapter(nn.Module):
        """As PEFT's: the model is deeper, and its configuration is passed on."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.base_model, self.config = nn.ModuleDict({"model": inner}), inner.config

    model = model_of(FAMILY)
    wrapped = {
        "adapter": Adapter(model),
        "data_parallel": nn.DataParallel(model),
        "nested": nn.Sequential(Adapter(model)),
    }[wrapper]
    with pruned() as (_, _):
        expected, _, _ = generate(model, inputs_of(FAMILY), 3)
    with unibench.prune(wrapped, "divprune", ratio=0.6) as session:
        assert session.family.model is model
        assert torch.equal(generate(model, inputs_of(FAMILY), 3)[0], expected)
        with pytest.raises(UsageError, match="already"), pruned():
            pass


def test_what_is_no_whole_model_is_refused() -> None:
    model = model_of(FAMILY)
    several = nn.ModuleList([model, model_of("llava")])
    for given, said in (
        (model.model, "Qwen2_5_VLModel is a part of a model"),
        (model.model.language_model, "is a part of a model"),
        (model.model.visual, "is a part of a model"),
        (several, "holds 2: Qwen2_5_VL.*, Llava"),
        (nn.Linear(2, 2), "not a Linear"),
        ("models/tiny/llava", "a loaded Hugging Face model, not 'models/tiny/llava'"),
    ):
        with pytest.raises(UsageError, match=said), unibench.prune(given, "divprune", ratio=0.6):
            pass


def test_a_prompt_longer_than_the_model_was_built_for_is_noted() -> None:
    model, inputs = model_of(FAMILY), inputs_of(FAMILY)
    config = model.model.language_model.config
    before = config.max_position_embeddings
    try:
        with pruned() as (_, session):
            generate(model, inputs, 1)
            assert not session.notes
            config.max_position_embeddings = 5
            generate(model, inputs, 1)
            assert session.notes == {
                "prompts longer than the 5 tokens that the model was built for"
            }
    finally:
        config.max_position_embeddings = before
