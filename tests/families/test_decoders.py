"""Cuts on decoders that are not full attention everywhere."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import pytest
import torch

from tests.families.test_architectures import spec_of
from unibench import Method, UsageError
from unibench.budget import Budget
from unibench.conformance import checks, reference
from unibench.conformance.methods import Every, Look
from unibench.facts import ModelFacts
from unibench.pruning import Needs, Session
from unibench.pruning.family import Family
from unibench.pruning.refusal import refusal

HYBRID, WINDOWS, SHARED = "qwen3_5_9b", "gemma3_4b", "gemma4_e2b"
WHOLE = Budget.parse(ratio=0)


@cache
def subject(name: str, attn: str = "sdpa") -> checks.Subject:
    return checks.Subject.of(spec_of(name), attn)


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("name", [HYBRID, WINDOWS])
def test_a_cut_at_layer_0_is_the_bare_decoder_on_what_is_left(name: str, attn: str) -> None:
    one = subject(name, attn)
    inputs = one.prompt(0, 2)
    with one.session(Every()).installed() as session, torch.no_grad():
        cut = one.model(**copy.deepcopy(inputs), use_cache=True).logits
    assert session.prompt is not None
    kept = session.prompt.segments[0].origin[0]
    seen = reference.given_to_text(one.model, inputs)
    assert 0 < len(kept) < seen["inputs_embeds"].shape[1]
    # the same kernels on the same shapes; a mask of all True may stand where there was none
    torch.testing.assert_close(cut, checks.bare(one.model, seen, kept), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [HYBRID, WINDOWS, SHARED])
def test_generation_after_a_cut_equals_the_slow_reference(name: str) -> None:
    checks.slow_reference(subject(name), subject(name).prompt(1))


def test_a_cut_between_layers_with_windows_equals_the_slow_reference() -> None:
    one = subject(WINDOWS)
    assert one.loaded.family.window is not None
    assert one.prompt(0)["input_ids"].shape[1] > 2 * one.loaded.family.window
    checks.later_cuts(one, one.prompt(0))


def test_windows_count_the_places_that_tokens_have() -> None:
    """Closed up, a window reaches further back than where tokens stay where they stood."""
    one = subject(WINDOWS)
    inputs = one.prompt(0)
    checks.compact(one, inputs)
    scores = {}
    for positions in ("original", "compact"):
        with one.session(Every(), positions).installed():  # type: ignore[arg-type]
            scores[positions] = checks.generate(one.model, inputs)[1]
    assert not torch.allclose(scores["original"], scores["compact"], atol=1e-2)


def refused(name: str, method: Method) -> str:
    with pytest.raises(UsageError) as caught:
        Session(subject(name).loaded.family, method, WHOLE)
    return str(caught.value)


def test_a_cut_behind_a_state_is_refused_and_one_in_front_is_not() -> None:
    assert "in the state of layer 0" in refused(HYBRID, Every((2,)))
    assert "cut at layer 0, or take after_state=true" in refused(HYBRID, Every((0, 4)))
    Session(subject(HYBRID).loaded.family, Every((0,)), WHOLE)
    # what a full layer comes before no state has seen
    kinds = ("full_attention", "full_attention", "linear_attention", "full_attention")
    facts = ModelFacts("m", depth=4, kinds=kinds)
    assert refusal(Every((2,)), WHOLE, Family, facts) is None
    assert "state of layer 2" in str(refusal(Every((3,)), WHOLE, Family, facts))


@pytest.mark.parametrize("layers", [(4,), (1, 3), (0, 6)])
def test_a_cut_behind_a_state_equals_the_slow_reference_where_it_is_allowed(
    layers: tuple[int, ...],
) -> None:
    """The layers before the cut have read everything, those behind it what is left."""
    one = subject(HYBRID)
    checks.follows(one, one.prompt(0), Every(layers), after_state=True)
    for positions in ("compact",) if len(layers) == 1 else ():
        checks.follows(one, one.prompt(0), Every(layers), positions, after_state=True)


def test_a_batch_cut_behind_a_state_is_answered_as_its_prompts_are_alone() -> None:
    one = subject(HYBRID)
    # not the prompt of seed 1: even uncut, reading it at once and token by token differs by 1e-3,
    # since the rule of the states is summed in chunks
    with one.session(Every((4,)), after_state=True).installed():
        tokens, scores, _ = checks.generate(one.model, one.prompts((0, 2)))
        for row, seed in enumerate((0, 2)):
            alone, alone_scores, _ = checks.generate(one.model, one.prompt(seed))
            torch.testing.assert_close(scores[row], alone_scores[0], **checks.CLOSE)
            assert torch.equal(tokens[row], alone[0])


def test_a_row_says_that_a_cut_came_behind_a_state() -> None:
    one = subject(HYBRID)
    session = one.session(Every((4,)), after_state=True)
    assert session.notes == {
        "after_state: cut at layer 4, what is dropped stays in the states of 3 layers before it"
    }
    # in front of every state, and where there is none, the option says nothing
    assert not one.session(Every((0,)), after_state=True).notes
    assert not subject(WINDOWS).session(Every((4,)), after_state=True).notes


def test_attention_of_a_layer_that_has_none_is_refused() -> None:
    def look(ctx: object) -> None: ...

    assert "does not attend" in refused(HYBRID, Look(look, 0, Needs(llm_attention=(1,))))


def test_keys_that_later_layers_share_are_not_cut_behind_their_layer() -> None:
    one = subject(SHARED)
    assert "read the keys and values of layer 2" in refused(SHARED, Every((3,)))
    Session(one.loaded.family, Every((2,)), WHOLE)


def test_flash_attention_counts_windows_otherwise_and_is_refused() -> None:
    facts = ModelFacts("m", depth=2, kinds=("sliding_attention",) * 2, kernel="flash_attention_2")
    assert "sliding window" in str(refusal(Every(), WHOLE, Family, facts))


def test_a_kind_of_layer_that_is_not_known_is_refused_by_name() -> None:
    facts = ModelFacts("m", depth=2, kinds=("full_attention", "chunked_attention"))
    assert "chunked_attention" in str(refusal(Every(), WHOLE, Family, facts))


@dataclass(frozen=True)
class Weighing(Every):
    """Says that its tokens stand for several."""

    def stages(self, depth: int) -> list[object]:  # type: ignore[override]
        from dataclasses import replace

        return [replace(stage, weighted=True) for stage in super().stages(depth)]


def test_tokens_that_stand_for_several_do_not_enter_a_state() -> None:
    assert "carry a state" in refused(HYBRID, Weighing())
