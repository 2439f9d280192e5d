"""Tokens that stand for several are attended to as often, in the prefill and while decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import unibench
from tests.support import reference
from tests.support.methods import Recording, Unbudgeted
from tests.support.models import collate, families, generate, inputs_of, model_of
from unibench import Selection, Stage, StageContext
from unibench.pruning.cutting import causal_mask
from unibench.pruning.refusal import refusal

STEPS = 5
LAYER = 2
pytestmark = pytest.mark.parametrize("attn", ["sdpa", "eager"])


def sizes_of(count: int) -> Tensor:
    return torch.arange(count) % 4 + 1.0


@dataclass(frozen=True)
class Weighted(Unbudgeted):
    """Every third token goes on at one layer, every second of these at a later one; the first cut
    says how many each stands for.
    """

    all_stay: bool = False

    def stages(self, depth: int) -> Sequence[Stage]:
        first = Stage(LAYER, self.select, exact=False, weighted=True)
        return [first, Stage(LAYER + 2, self._again, exact=False)]

    def select(self, ctx: StageContext) -> Selection:
        keep = torch.arange(0, len(ctx.visual), 1 if self.all_stay else 3)
        return Selection(keep, sizes=sizes_of(len(keep)))

    def _again(self, ctx: StageContext) -> Selection:
        return Selection(torch.arange(0, len(ctx.visual), 2))


@families
@pytest.mark.parametrize("all_stay", [False, True])
def test_generation_equals_the_slow_reference(family: str, attn: str, all_stay: bool) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, 2)
    method = Recording(Weighted(all_stay))
    with unibench.prune(model, method) as session:
        tokens, scores, _ = generate(model, inputs, STEPS)
    assert session.prompt is not None
    length = inputs["input_ids"].shape[1]
    drops = {}
    for layer, segment in session.prompt.segments.items():
        drops[layer] = torch.ones(length, dtype=torch.bool)
        drops[layer][segment.origin[0]] = False
    rows, _ = method.seen[LAYER]
    weights = torch.ones(length).index_copy(0, rows, sizes_of(len(rows)))
    expected, expected_scores = reference.greedy(
        model, inputs, STEPS, drops, weights={LAYER: weights}
    )
    assert tokens[0].tolist() == expected
    torch.testing.assert_close(scores[0], expected_scores, atol=1e-4, rtol=1e-4)
    plain = reference.greedy(model, inputs, 1, drops)[1]
    assert not torch.allclose(plain[0], scores[0, 0], atol=1e-3)


@families
def test_a_batch_equals_single_prompts(family: str, attn: str) -> None:
    model, samples = model_of(family, attn), [inputs_of(family, seed, 1 + seed) for seed in (0, 1)]
    with unibench.prune(model, Weighted()):
        together, scores, _ = generate(model, collate(samples), STEPS)
        for row, sample in enumerate(samples):
            alone, alone_scores, _ = generate(model, sample, STEPS)
            assert torch.equal(together[row], alone[0])
            torch.testing.assert_close(scores[row], alone_scores[0], atol=1e-4, rtol=1e-4)


@dataclass(frozen=True)
class Denied(Unbudgeted):
    """Weighs tokens in a stage that does not say so."""

    def stages(self, depth: int) -> Sequence[Stage]:
        return [Stage(LAYER, Weighted().select, exact=False)]


def test_a_stage_that_denies_weights_may_not_give_them(attn: str) -> None:
    model = model_of("llava", attn)
    with unibench.prune(model, Denied()), pytest.raises(ValueError, match="weighs tokens"):
        model(**inputs_of("llava"))


def test_flash_attention_is_refused_by_name(attn: str) -> None:
    from unibench.api import family_of
    from unibench.budget import Budget
    from unibench.facts import ModelFacts

    family = type(family_of(model_of("llava", attn)))
    facts = ModelFacts(depth=6, kernel="flash_attention_2")
    reason = refusal(Weighted(), Budget.parse(ratio=0.5), family, facts)
    assert reason is not None and "weighs keys, which flash_attention_2 cannot" in reason


def test_a_size_is_as_many_equal_keys(attn: str) -> None:
    hidden, valid = torch.zeros(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
    mask = causal_mask(attn, valid, hidden, False, torch.tensor([[1.0, 3.0, 1.0]]))
    assert mask is not None
    assert mask[0, 0].softmax(-1)[2].tolist() == pytest.approx([0.2, 0.6, 0.2])
    assert mask[0, 0].softmax(-1)[1].tolist() == pytest.approx([0.25, 0.75, 0])
