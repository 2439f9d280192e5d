"""Generation through the engine is the slow way's (no cache, no cut), for every method inside the
language model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import unibench
from tests.engine.test_invariants import dropped
from tests.support import reference
from tests.support.methods import Recording
from tests.support.models import (
    ALONE,
    FAMILIES,
    LAYERS,
    QUICK,
    assert_beams_of_a_batch_are_those_of_single_samples,
    collate,
    generate,
    inputs_of,
    model_of,
)
from tests.support.turns import either_kernel, in_turn, kernels, plain, some_of
from unibench import Method, Stage
from unibench.api import build_method
from unibench.pruning.eviction import evict

STEPS, FEW = 5, 3  # without a cache each step reads the whole prompt and its pictures again
RATIO = 0.7
MERGING = dict(
    similarity=-1.0, window=2, global_threshold=0.06, individual_threshold=0.3
)  # all windows; then some tokens

# name -> (method, parameters, budget mode)
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "fastv": ("fastv", {}, "at_stage"),
    "random_intra": ("random_intra", {"layer": 1}, "at_stage"),
    "vtw": ("vtw", {}, "at_stage"),
    "vtw[average]": ("vtw", {}, "layer_average"),
    "dart": ("dart", {}, "at_stage"),
    "dart[official_bug]": ("dart", {"variant": "official_bug", "layer": 3}, "at_stage"),
    "pyramiddrop": ("pyramiddrop", {}, "at_stage"),
    "pyramiddrop[first]": ("pyramiddrop", {"layers": (0, 1, 5)}, "layer_average"),
    "sparsevlm": ("sparsevlm", {}, "at_stage"),
    "sparsevlm[average]": ("sparsevlm", {"recycle": 0.6}, "layer_average"),
    "sparsevlm[counts]": ("sparsevlm", {"counts": (12, 8, 4), "layers": (1, 2, 4)}, "at_stage"),
    "sparsevlm[rank]": ("sparsevlm", {"rank": True, "layers": (1, 2, 4)}, "at_stage"),
    "fitprune": ("fitprune", {}, "at_stage"),
    "fitprune[recipe]": ("fitprune", {"recipe": (2, 0, 1, 3, 1, 1)}, "at_stage"),
    "two_stage": ("two_stage", {}, "at_stage"),
    "two_stage[merged]": ("two_stage", {"pre": "visionzip", "intra": "sparsevlm"}, "at_stage"),
    "two_stage[ratios]": (
        "two_stage",
        {"pre_ratio": 0.3, "intra_ratio": 0.5, "intra": "pyramiddrop"},
        "at_stage",
    ),
    "schedule": ("schedule", {}, "at_stage"),
    "schedule[dart]": (
        "schedule",
        {"method": "dart", "cuts": ([1, 0.3], [3, None])},
        "layer_average",
    ),
    "mustdrop": ("mustdrop", MERGING, "at_stage"),
}
UNEVICTED = [name for name in CASES if name != "mustdrop"]


@dataclass(frozen=True)
class Seen(Recording):
    """Also under a budget that is a mean over layers."""

    def averaged(self, depth: int) -> Sequence[Stage]:
        return [replace(stage, select=self._noted(stage)) for stage in self.inner.averaged(depth)]


def build(name: str) -> tuple[Method, str]:
    method, parameters, mode = CASES[name]
    return build_method(method, **parameters), mode


def some(names: Sequence[str], quick: dict[str, tuple[str, str]]) -> list[Any]:
    """Every (name, family, kernel); those that are not ``quick`` are slow."""
    return [
        pytest.param(
            name,
            family,
            attn,
            marks=[] if quick.get(name) == (family, attn) else [pytest.mark.slow],
        )
        for name in names
        for family in FAMILIES
        for attn in ("sdpa", "eager")
    ]


def spread(names: Sequence[str], shift: int) -> dict[str, tuple[str, str]]:
    """One family and kernel for each name, so that all meet all over time."""
    found = list(QUICK)
    return {
        name: (found[(i + shift) % len(found)], ("sdpa", "eager")[(i + i // 4 + shift) % 2])
        for i, name in enumerate(names)
    }


@in_turn("name, family, attn", UNEVICTED, either_kernel, on=1)
def test_generation_equals_the_slow_reference(family: str, attn: str, name: str) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0)
    inner, mode = build(name)
    method = Seen(inner)
    with unibench.prune(model, method, ratio=RATIO, budget_mode=mode) as session:
        tokens, scores, cache = generate(model, inputs, STEPS)
    length = inputs["input_ids"].shape[1]
    drops = dropped(session, length)
    assert drops
    expected, expected_scores = reference.greedy(model, inputs, STEPS, drops, method.merges)
    torch.testing.assert_close(scores[0], expected_scores, atol=3e-4, rtol=3e-4)
    assert tokens[0].tolist() == expected
    (record,) = session.take_records()
    for layer in range(LAYERS):
        gone = int(drops[layer].sum()) if layer in drops else 0
        assert record.processed[layer] == record.visual_tokens - gone
        assert cache.layers[layer].get_seq_length() == length - gone + STEPS - 1


@kernels
def test_mustdrop_merges_drops_and_hides_the_cache_from_decoding_only(
    family: str, attn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = model_of(family, attn), inputs_of(family, 0, images=2)
    inner, mode = build("mustdrop")
    method = Seen(inner)
    length = inputs["input_ids"].shape[1]
    prefill: reference.Drops = {}
    with unibench.prune(model, method, budget_mode=mode) as session:

        def noted(prompt: Any, chooser: Any, cache: Any) -> None:
            prefill.update(dropped(session, length))
            evict(prompt, chooser, cache)

        monkeypatch.setattr("unibench.pruning.session.evict", noted)
        tokens, scores, cache = generate(model, inputs, STEPS)
    after = dropped(session, length)
    expected, expected_scores = reference.greedy(
        model, inputs, STEPS, prefill, method.merges, after
    )
    torch.testing.assert_close(scores[0], expected_scores, atol=3e-4, rtol=3e-4)
    assert tokens[0].tolist() == expected
    (record,) = session.take_records()
    assert record.visual_tokens > record.processed[0] > record.processed[-1] > 0
    assert record.processed[-2] == record.processed[-1]  # four cuts in six layers: 1, 2, 3 and 4
    # the first cut is at the input of layer 1, so caches from layer 0 on hold the final set alone
    visual = int((inputs["input_ids"] == 190).sum())
    held = [
        cache.layers[layer].get_seq_length() - (length - visual) - (STEPS - 1)
        for layer in range(LAYERS)
    ]
    assert held == [record.processed[-1]] * LAYERS
    assert record.processed[0] == visual - int(prefill[0].sum())


@pytest.mark.parametrize(("name", "family", "attn"), some([*CASES], spread([*CASES][::2], 1)))
def test_a_ragged_batch_equals_single_samples(name: str, family: str, attn: str) -> None:
    model = model_of(family, attn)
    samples = [inputs_of(family, 0, 1), inputs_of(family, 1, 0), inputs_of(family, 2, 3)]
    method, mode = build(name)
    with unibench.prune(model, method, ratio=RATIO, budget_mode=mode) as session:
        tokens, scores, _ = generate(model, collate(samples), STEPS)
    together = session.take_records()
    for row, sample in enumerate(samples):
        with unibench.prune(model, method, ratio=RATIO, budget_mode=mode) as session:
            alone, alone_scores, _ = generate(model, sample, STEPS)
        assert session.take_records() == [together[row]]
        torch.testing.assert_close(scores[row], alone_scores[0], atol=5e-4, rtol=5e-4)
        assert torch.equal(tokens[row], alone[0])


# their further forms choose otherwise, and decode as they do
PLAIN = [name for name in UNEVICTED if plain(name)]


@pytest.mark.parametrize(("name", "family", "attn"), some(UNEVICTED, spread(PLAIN, 2)))
def test_beams_and_generation_without_a_cache(name: str, family: str, attn: str) -> None:
    if family in ALONE:
        pytest.skip("refused: beams are a batch")
    model, inputs = model_of(family, attn), inputs_of(family, 0)
    method, mode = build(name)

    def tokens(**options: Any) -> torch.Tensor:
        with unibench.prune(model, method, ratio=RATIO, budget_mode=mode):
            out: torch.Tensor = model.generate(
                **copy.deepcopy(inputs), max_new_tokens=FEW, do_sample=False, **options
            )
            return out

    assert torch.equal(tokens(num_beams=3, use_cache=False), tokens(num_beams=3))
    assert torch.equal(tokens(use_cache=False), tokens())


@pytest.mark.parametrize(
    ("name", "family", "attn"), some(["mustdrop"], {"mustdrop": ("llava", "sdpa")})
)
def test_beams_of_an_evicting_method_are_those_of_single_samples(
    name: str, family: str, attn: str
) -> None:
    model, samples = model_of(family, attn), [inputs_of(family, 0, 1), inputs_of(family, 1, 2)]
    method, _ = build(name)
    with unibench.prune(model, method):
        assert_beams_of_a_batch_are_those_of_single_samples(model, samples, STEPS)


@pytest.mark.parametrize(("name", "family", "attn"), some([*CASES], spread([*CASES], 3)))
def test_keeping_everything_changes_nothing(name: str, family: str, attn: str) -> None:
    method, mode = build(name)
    if (
        method.adaptive
        or "[official_bug]" in name
        or "[counts]" in name
        or "[rank]" in name
        or "[ratios]" in name
        or "schedule" in name
    ):
        pytest.skip("its numbers do not follow the budget")
    model, inputs = model_of(family, attn), inputs_of(family, 0, images=2)
    plain, scores, _ = generate(model, inputs, STEPS)
    with unibench.prune(model, method, ratio=0, budget_mode=mode) as session:
        tokens, again, _ = generate(model, inputs, STEPS)
    (record,) = session.take_records()
    assert set(record.processed) == {record.visual_tokens}
    assert torch.equal(tokens, plain)
    if "[merged]" not in name:  # values that are a sum of one are the same only to rounding
        assert torch.equal(again, scores)


@some_of(
    "name, family",
    [(name, list(FAMILIES)[i % len(FAMILIES)]) for i, name in enumerate(CASES)],
    3,
)
def test_half_precision_models_choose_in_float32_and_keep_as_many(name: str, family: str) -> None:
    method, mode = build(name)
    model, inputs = model_of(family), inputs_of(family, 0, 2)
    half = copy.deepcopy(model).to(torch.bfloat16)
    inputs_half = {
        key: value.to(torch.bfloat16) if value.is_floating_point() else value
        for key, value in inputs.items()
    }
    dtypes: list[torch.dtype] = []
    counts = []
    for one, given in ((model, inputs), (half, inputs_half)):
        with unibench.prune(one, method, ratio=RATIO, budget_mode=mode) as session:
            for stages in session.stages.values():
                for _, stage in stages:
                    object.__setattr__(stage, "select", _noting(stage.select, dtypes))
            generate(one, given, 1)
        counts.append(session.take_records()[0].processed)
    assert set(dtypes) == {torch.float32}
    if not method.adaptive and "[rank]" not in name:
        assert counts[0] == counts[1]


def _noting(select: Any, dtypes: list[torch.dtype]) -> Any:
    """Notes the type of everything that a method looks at or makes."""

    def noted(ctx: Any) -> Any:
        selection = select(ctx)
        seen = [ctx.visual_hidden, ctx.final_norm(ctx.hidden)]
        if selection is not None and selection.values is not None:
            seen.append(selection.values)
        dtypes.extend(tensor.dtype for tensor in seen)
        return selection

    return noted
