"""Where the tokens that go on stand: closed up, or amid what they were merged from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.engine.test_invariants import METHODS, dropped
from tests.support import reference
from tests.support.methods import Evict, Fixed, KeepAll, Recording, Unbudgeted, every
from tests.support.models import (
    LAYERS,
    QUICK,
    collate,
    generate,
    inputs_of,
    model_of,
    text_of,
)
from tests.support.turns import either_kernel, in_turn, kernels, once
from unibench import Method, Selection, Stage, StageContext, UsageError
from unibench.pruning.eviction import evict

STEPS, LONG = 6, 200
FEW = ("layer0", "schedule", "merge_llm")
attentions = pytest.mark.parametrize("attn", ["sdpa", "eager"])


@dataclass(frozen=True)
class Runs(Unbudgeted):
    """Means of runs of tokens, before the model and again inside it; the first of a run goes on.

    The second token of the last cut is left as it is.
    """

    centres = True
    lengths: tuple[tuple[int, int], ...] = ((0, 3), (2, 2))

    def stages(self, depth: int) -> Sequence[Stage]:
        return [Stage(layer, self.select, exact=False) for layer, _ in self.lengths]

    def select(self, ctx: StageContext) -> Selection:
        runs = torch.arange(len(ctx.visual)).split(dict(self.lengths)[ctx.layer])
        values = torch.stack([ctx.visual_hidden[run].mean(0) for run in runs])
        pairs = [(into, token) for into, run in enumerate(runs) for token in run.tolist()]
        order = torch.randperm(len(runs), generator=ctx.generator())
        place = order.argsort()  # neither kept tokens nor pairs have to be in order
        members = [(int(place[into]), token) for into, token in pairs if ctx.layer == 0 or into]
        keep = torch.stack([run[0] for run in runs])
        return Selection(keep[order], values[order], members=lambda: torch.tensor(members[::-1]).T)


def at(model: Any, inputs: dict[str, Any]) -> Tensor:
    """Positions as rotary embeddings take them, ``[1 or 3, 1, L]``."""
    _, positions = reference.prompt_of(model, inputs)
    positions = positions[None] if positions.ndim == 2 else positions[-3:]
    return positions.float()


def turned(positions: Tensor) -> Tensor:
    """As a decoder takes them: without the first axis where there is one."""
    return positions if len(positions) == 3 else positions[0]


def closed_up(model: Any, inputs: dict[str, Any], drops: reference.Drops) -> reference.Moves:
    """Positions where every layer counts the tokens that it sees."""
    whole = at(model, inputs)
    moved = {}
    for layer, gone in drops.items():
        rank = (~gone).cumsum(0) - 1
        moved[layer] = turned(rank.expand_as(whole).float() if bool(gone.any()) else whole)
    return moved


@in_turn("images, family, attn", [1, 3], either_kernel)
def test_a_cut_before_the_model_is_the_plain_decoder_on_the_kept_rows(
    family: str, attn: str, images: int
) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, images)
    text, rows = text_of(model), []

    def look(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        rows.append((args[0] if args else kwargs["hidden_states"]).clone())

    method = Fixed({0: every(3, 1)})
    with unibench.prune(model, method, positions="compact") as session, torch.no_grad():
        handle = text.layers[0].register_forward_pre_hook(look, with_kwargs=True)
        found = model(**copy.deepcopy(inputs)).logits
        handle.remove()
    assert session.prompt is not None
    kept = session.prompt.segments[0].origin[0]
    more = {}
    if added := reference.added_to(model, inputs):  # DeepStack: given to all rows as if visual
        more["visual_pos_masks"] = torch.ones(1, len(kept), dtype=torch.bool)
        more["deepstack_visual_embeds"] = [level[kept] for level in added]
    with torch.no_grad():
        plain = text(
            inputs_embeds=rows[0],
            attention_mask=torch.ones(1, len(kept), dtype=torch.long),
            position_ids=torch.arange(len(kept))[None],
            **more,
        )
    expected = model.lm_head(plain.last_hidden_state)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)
    with unibench.prune(model, method), torch.no_grad():
        original = model(**copy.deepcopy(inputs)).logits
    assert not torch.allclose(original, found, atol=1e-2)


@in_turn("name, family, attn", FEW, either_kernel)
def test_closed_up_generation_equals_the_slow_reference(family: str, attn: str, name: str) -> None:
    check_closed_up(model_of(family, attn), inputs_of(family, 0, 2), METHODS[name], STEPS)


@pytest.mark.slow
@attentions
@pytest.mark.parametrize(
    "family", ["llava", "internvl", "qwen2_5_vl", "smolvlm", "llava_onevision"]
)
@pytest.mark.parametrize("name", ["layer0", "pyramid"])
def test_a_long_answer_goes_on_where_the_closed_up_prompt_ends(
    family: str, attn: str, name: str
) -> None:
    check_closed_up(model_of(family, attn), inputs_of(family, 0), METHODS[name], LONG)


def check_closed_up(model: Any, inputs: dict[str, Any], inner: Method, steps: int) -> None:
    method = Recording(inner)
    with unibench.prune(model, method, positions="compact") as session:
        tokens, scores, _ = generate(model, inputs, steps)
    drops = dropped(session, inputs["input_ids"].shape[1])
    expected, expected_scores = reference.greedy(
        model, inputs, steps, drops, method.merges, moved=closed_up(model, inputs, drops)
    )
    torch.testing.assert_close(scores[0], expected_scores, atol=3e-4, rtol=3e-4)
    assert tokens[0].tolist() == expected


@kernels
def test_what_leaves_the_cache_moves_nothing(
    family: str, attn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, 2)
    length, method = inputs["input_ids"].shape[1], Recording(Evict())
    prefill: reference.Drops = {}
    with unibench.prune(model, method, positions="compact") as session:

        def noted(prompt: Any, chooser: Any, cache: Any) -> None:
            prefill.update(dropped(session, length))
            evict(prompt, chooser, cache)

        monkeypatch.setattr("unibench.pruning.session.evict", noted)
        tokens, scores, _ = generate(model, inputs, STEPS)
    expected, expected_scores = reference.greedy(
        model, inputs, STEPS, prefill, method.merges, dropped(session, length),
        moved=closed_up(model, inputs, prefill),
    )  # fmt: skip
    torch.testing.assert_close(scores[0], expected_scores, atol=3e-4, rtol=3e-4)
    assert tokens[0].tolist() == expected


@kernels
def test_merged_tokens_stand_amid_those_they_stand_for(family: str, attn: str) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, 2)
    method = Recording(Runs())
    with unibench.prune(model, method, positions="centre") as session:
        tokens, scores, _ = generate(model, inputs, STEPS)
    assert session.prompt is not None
    visual = session.prompt.visual[0].nonzero()[:, 0]
    whole = at(model, inputs)
    first, second = whole.clone(), None
    for run in visual.split(3):
        first[..., run[0]] = whole[..., run].mean(-1)
    second = first.clone()
    for run in visual[::3].split(2)[1:]:  # the first run says nothing of its members
        second[..., run[0]] = first[..., run].mean(-1)
    moved = {layer: turned(first if layer < 2 else second) for layer in range(LAYERS)}
    drops = dropped(session, inputs["input_ids"].shape[1])
    expected, expected_scores = reference.greedy(
        model, inputs, STEPS, drops, method.merges, moved=moved
    )
    torch.testing.assert_close(scores[0], expected_scores, atol=3e-4, rtol=3e-4)
    assert tokens[0].tolist() == expected
    with unibench.prune(model, Runs()):
        _, original, _ = generate(model, inputs, STEPS)
    assert not torch.allclose(original[0, 0], scores[0, 0], atol=1e-3)


RELEASED = ["original_then_compact", "compact_then_original"]


@in_turn("policy, family, attn", RELEASED, either_kernel)
def test_released_decoding_goes_on_where_that_code_goes_on(
    family: str, attn: str, policy: Any
) -> None:
    model, inputs, handed = model_of(family, attn), inputs_of(family, 0, 2), list[Any]()

    def look(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        handed.append(kwargs["position_embeddings"])

    with unibench.prune(model, Fixed({1: every(3, 1)}), positions=policy) as session:
        handle = text_of(model).layers[2].register_forward_pre_hook(look, with_kwargs=True)
        generate(model, inputs, 3)
        handle.remove()
    assert session.prompt is not None
    whole, origin = at(model, inputs), session.prompt.segments[2].origin[0]
    closed = torch.arange(len(origin)).expand(len(whole), 1, -1).float()
    kept, end = whole[:, :, origin], whole[..., -1:] + 1
    if policy == "original_then_compact":
        end = torch.full_like(end, len(origin))
    else:
        kept = closed
    for found, place in zip(handed, (kept, end, end + 1), strict=False):
        hidden = torch.zeros(1, place.shape[-1], 1)
        wanted = session.family.rotary(hidden, turned(place), session.family.kinds[2])
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@in_turn("policy, family, attn", ["compact", "centre", *RELEASED], either_kernel, on=1)
def test_a_ragged_batch_equals_single_samples(family: str, attn: str, policy: Any) -> None:
    # one of text alone, and one of which the cuts drop nothing, beside others
    model = model_of(family, attn)
    samples = [inputs_of(family, 0, 1), inputs_of(family, 1, 0), inputs_of(family, 2, 3)]
    method: Method = Runs() if policy == "centre" else METHODS["schedule"]
    with unibench.prune(model, method, positions=policy) as session:
        tokens, scores, _ = generate(model, collate(samples), STEPS)
    together = session.take_records()
    for row, sample in enumerate(samples):
        with unibench.prune(model, method, positions=policy) as session:
            alone, alone_scores, _ = generate(model, sample, STEPS)
        assert session.take_records() == [together[row]]
        torch.testing.assert_close(scores[row], alone_scores[0], atol=5e-4, rtol=5e-4)
        assert torch.equal(tokens[row], alone[0])


@in_turn("policy, family, attn", ["compact", "centre"], either_kernel)
def test_keeping_everything_moves_nothing(family: str, attn: str, policy: Any) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, 2)
    plain, scores, _ = generate(model, inputs, STEPS)
    method: Method = Runs(((0, 1), (2, 1))) if policy == "centre" else KeepAll()
    with unibench.prune(model, method, positions=policy):
        tokens, again, _ = generate(model, inputs, STEPS)
    assert torch.equal(tokens, plain) and torch.equal(again, scores)


@in_turn("policy, family", ["compact", "centre"], once, on=2)
def test_beams_several_tokens_and_no_cache_go_on_alike(family: str, policy: Any) -> None:
    model, inputs = model_of(family), inputs_of(family, 0)
    method: Method = Runs() if policy == "centre" else METHODS["schedule"]

    def tokens(**options: Any) -> Tensor:
        with unibench.prune(model, method, positions=policy):
            out: Tensor = model.generate(
                **copy.deepcopy(inputs), max_new_tokens=STEPS, do_sample=False, **options
            )
            return out

    assert torch.equal(tokens(use_cache=False), tokens())
    if family != "llava_onevision_1_5":  # whose code reads one prompt with pictures at a time
        assert torch.equal(tokens(num_beams=3, use_cache=False), tokens(num_beams=3))
    new = torch.tensor([[5, 9, 17, 3]])
    with unibench.prune(model, method, positions=policy), torch.no_grad():
        cache = model(**copy.deepcopy(inputs), use_cache=True).past_key_values
        singles = [
            model(input_ids=new[:, i : i + 1], past_key_values=cache, use_cache=True).logits
            for i in range(4)
        ]
        cache = model(**copy.deepcopy(inputs), use_cache=True).past_key_values
        together = model(input_ids=new, past_key_values=cache, use_cache=True).logits
    torch.testing.assert_close(together, torch.cat(singles, 1), atol=1e-4, rtol=1e-4)


def test_positions_outside_the_set_and_methods_without_groups_are_refused() -> None:
    model = model_of(QUICK[0])
    for positions, method, said in (
        ("compct", "divprune", "Did you mean compact"),
        ("centre", "divprune", "DivPrune does not say which tokens it merges"),
    ):
        with (
            pytest.raises(UsageError, match=said),
            unibench.prune(model, method, ratio=0.5, positions=positions),  # type: ignore[arg-type]
        ):
            pass


def test_a_merge_without_members_is_refused_where_it_should_be_placed() -> None:
    @dataclass(frozen=True)
    class Silent(Runs):
        def select(self, ctx: StageContext) -> Selection:
            found = super().select(ctx)
            return Selection(found.keep, found.values)

    model = model_of(QUICK[0])
    with (
        pytest.raises(UsageError, match="Silent does not say here which tokens"),
        unibench.prune(model, Silent(), positions="centre"),
    ):
        generate(model, inputs_of(QUICK[0], 0), 1)
