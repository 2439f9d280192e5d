"""Choosing at each decoding step what later layers read: as a forward without a cache has it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.support import reference
from tests.support.methods import Fixed, every
from tests.support.models import (
    LAYERS,
    QUICK,
    collate,
    families,
    generate,
    inputs_of,
    model_of,
)
from tests.support.turns import either_kernel, in_turn
from unibench import Chain, Method, Stage, UsageError
from unibench.pruning import StepContext

STEPS, FIRST = 6, 3
attentions = pytest.mark.parametrize("attn", ["sdpa", "eager"])


@dataclass(frozen=True)
class Third(Method):
    """Of what a step looks at, layers from the fourth on read the best third; some steps all."""

    uses_budget = False
    every_step: bool = False
    seen: list[StepContext] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)

    def stages(self, depth: int) -> Sequence[Stage]:
        return ()

    def rereads(self, depth: int) -> int:
        return FIRST

    def reselect(self, ctx: StepContext) -> Tensor | None:
        steps = ctx.memory["steps"] = ctx.memory.get("steps", torch.tensor(0)) + 1
        self.seen.append(ctx)
        if int(steps) % 3 == 0 and not self.every_step:
            self.kept.append(ctx.vision_rows)
            return None
        best = ctx.attention.mean(0).topk(max(1, len(ctx.vision_rows) // 3)).indices
        self.kept.append(ctx.vision_rows[best])
        return best


def unread(method: Third, inputs: dict[str, Any], visual: Tensor) -> dict[int, Tensor]:
    """Columns that each generated token did not read."""
    length, hidden = inputs["input_ids"].shape[1], {}
    for step, kept in enumerate(method.kept):
        columns = torch.zeros(length, dtype=torch.bool)
        columns[visual] = True
        columns[visual[kept]] = False
        hidden[length + step] = columns
    return hidden


@in_turn("cut, family, attn", [False, True], either_kernel)
def test_decoding_equals_a_forward_without_a_cache(family: str, attn: str, cut: bool) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, 2)
    method = Third()
    whole: Method = Chain((Fixed({0: every(2)}), method)) if cut else method
    with unibench.prune(model, whole, ratio=0) as session:
        tokens, scores, cache = generate(model, inputs, STEPS)
    prompt = session.prompt
    assert prompt is not None
    visual = prompt.visual[0].nonzero()[:, 0]
    gone = torch.zeros(prompt.length, dtype=torch.bool)
    if cut:
        gone[visual] = True
        gone[visual[::2]] = False
    embeds, positions = reference.prompt_of(model, inputs)
    added = reference.added_to(model, inputs)
    hidden = unread(method, inputs, visual)
    for step in range(STEPS):
        drops = {0: torch.nn.functional.pad(gone, (0, step))}
        logits = reference.logits(
            model, embeds, positions, drops, added=added, unread=(FIRST, hidden)
            if step == STEPS - 1
            else (FIRST, {row: part for row, part in hidden.items() if row < embeds.shape[1]}),
        )  # fmt: skip
        torch.testing.assert_close(scores[0, step], logits[0, -1], atol=3e-4, rtol=3e-4)
        token = model.get_input_embeddings()(tokens[0, step])[None, None]
        embeds = torch.cat([embeds, token], 1)
        positions = torch.cat([positions, positions[..., -1:] + 1], -1)
    # nothing has left a cache
    stored = prompt.length - int(gone.sum()) + STEPS - 1
    assert {layer.get_seq_length() for layer in cache.layers} == {stored}


@families
def test_a_step_is_shown_the_attention_of_the_layer_before(family: str) -> None:
    model, inputs, method = model_of(family, "eager"), inputs_of(family, 0, 2), Third()
    with unibench.prune(model, method) as session:
        tokens, _, _ = generate(model, inputs, 2)
    assert session.prompt is not None
    visual = session.prompt.visual[0].nonzero()[:, 0]
    grown = copy.deepcopy(inputs)
    grown["input_ids"] = torch.cat([inputs["input_ids"], tokens[:, :1]], 1)
    grown["attention_mask"] = torch.ones_like(grown["input_ids"])
    if "mm_token_type_ids" in grown:
        grown["mm_token_type_ids"] = torch.nn.functional.pad(grown["mm_token_type_ids"], (0, 1))
    with torch.no_grad():
        maps = model(**grown, output_attentions=True, use_cache=False).attentions[FIRST - 1]
    torch.testing.assert_close(
        method.seen[0].attention, maps[0, :, -1, visual], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("family", QUICK)
@attentions
def test_a_ragged_batch_reads_as_single_samples_do(family: str, attn: str) -> None:
    model = model_of(family, attn)
    samples = [inputs_of(family, 0, 1), inputs_of(family, 1, 0), inputs_of(family, 2, 3)]
    with unibench.prune(model, Third(every_step=True)) as session:
        tokens, scores, _ = generate(model, collate(samples), STEPS)
        together = session.take_reads()
    for row, sample in enumerate(samples):
        with unibench.prune(model, Third(every_step=True)) as session:
            alone, alone_scores, _ = generate(model, sample, STEPS)
            reads = session.take_reads()
        torch.testing.assert_close(scores[row], alone_scores[0], atol=5e-4, rtol=5e-4)
        assert torch.equal(tokens[row], alone[0])
        if reads:  # none is counted without a picture
            assert [read.layers for read in reads] == [
                read.layers for read in together if read.sample == reads[0].sample
            ]


def test_what_each_layer_reads_is_counted() -> None:
    model, inputs = model_of("qwen2_5_vl"), inputs_of("qwen2_5_vl")
    with unibench.prune(model, Third()) as session:
        generate(model, inputs, STEPS)
        reads = session.take_reads()
    assert session.prompt is not None
    visual = int(session.prompt.visual.sum())
    third = (visual,) * FIRST + (visual // 3,) * (LAYERS - FIRST)
    expected = [third, third, (visual,) * LAYERS, third, third]
    assert [read.layers for read in reads] == expected
    assert session.take_reads() == []


def test_a_prompt_remembers_nothing_of_the_one_before() -> None:
    model, method = model_of("qwen2_5_vl"), Third()
    with unibench.prune(model, method):
        generate(model, inputs_of("qwen2_5_vl", 0), 3)
        first = len(method.seen)
        generate(model, inputs_of("qwen2_5_vl", 1), 3)
    assert [int(ctx.memory["steps"]) for ctx in (method.seen[0], method.seen[first])] == [2, 2]
    assert method.seen[0].memory is not method.seen[first].memory


def test_beams_are_refused() -> None:
    model, inputs = model_of("qwen2_5_vl"), inputs_of("qwen2_5_vl")
    with pytest.raises(UsageError, match="num_beams=1"), unibench.prune(model, Third()):
        model.generate(**copy.deepcopy(inputs), max_new_tokens=3, num_beams=2)
