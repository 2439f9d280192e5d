"""Methods around other methods: what they correct, and that they correct nothing else."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import unibench
from tests.methods._contexts import BESIDES, METHODS, OPTIONS, recorded, under
from tests.support.models import QUICK, inputs_of, model_of
from tests.support.turns import some_of
from unibench import Method, StageContext, UsageError, registry
from unibench.api import build_method
from unibench.compose import compose_cells
from unibench.facts import ModelFacts
from unibench.identity import cell_of
from unibench.pruning import Wrapper
from unibench.pruning.record import unpacked

WRAPPERS = {"cen_prune": "geometry", "debias": "attention", "stop": "saliency"}
FAMILY = "qwen2_5_vl"


@cache
def inner_of(name: str) -> Method:
    return build_method(name, **OPTIONS.get(name, {}))


INNER = [name for name in METHODS if name not in WRAPPERS]
PAIRS = [
    (wrapper, name)
    for wrapper, aspect in WRAPPERS.items()
    for name in INNER
    if aspect in inner_of(name).corrected
]


@dataclass(frozen=True)
class Clear(Wrapper):
    """Corrects nothing."""

    inner: Method
    corrects: ClassVar = "geometry"


def kept(method: Method, seed: int, *, video: bool, ratio: float = 0.667) -> Tensor:
    """The tokens of a prompt that reach the last layer."""
    model, inputs = model_of(FAMILY), inputs_of(FAMILY, seed, 2, video=video)
    pruned = unibench.prune(model, method, ratio=ratio, **BESIDES)
    with pruned as session, torch.no_grad():
        model(**copy.deepcopy(inputs), use_cache=True)
    (record,) = session.take_records()
    return unpacked(record.last, record.visual_tokens)


@some_of("wrapper, name", PAIRS, 3)
def test_a_wrapped_method_keeps_as_many_tokens_and_others(wrapper: str, name: str) -> None:
    inner = inner_of(name)
    method = build_method(wrapper, inner=inner, **OPTIONS.get(wrapper, {}))
    assert (method.text_aware, method.adaptive) == (inner.text_aware, inner.adaptive)
    changed = False
    for seed in range(3):
        video = wrapper == "stop"
        plain, corrected = (kept(each, seed, video=video) for each in (inner, method))
        if not method.adaptive:
            assert int(plain.sum()) == int(corrected.sum())
        changed |= not torch.equal(plain, corrected)
    assert changed


@pytest.mark.parametrize("name", sorted({name for _, name in PAIRS}))
def test_a_wrapper_that_corrects_nothing_changes_nothing(name: str) -> None:
    if "geometry" not in inner_of(name).corrected:
        pytest.skip("refused: Clear corrects geometry")
    for seed in range(2):
        plain = kept(inner_of(name), seed, video=False)
        assert torch.equal(plain, kept(Clear(inner_of(name)), seed, video=False))


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_method_that_asks_for_nothing_that_is_corrected_is_refused(wrapper: str) -> None:
    family = registry.families()[FAMILY].load()
    for name in INNER:
        method = build_method(wrapper, inner=inner_of(name), **OPTIONS.get(wrapper, {}))
        reason = method.requires(family, ModelFacts())
        if (wrapper, name) not in PAIRS:
            assert reason is not None and "does not ask" in reason


@pytest.mark.parametrize("family", QUICK)
@pytest.mark.parametrize("prompt", ["grid", "images"])
def test_cen_prune_around_divprune_is_the_search_of_the_paper(family: str, prompt: str) -> None:
    ctx = under(recorded(family, prompt), 0.667)
    ctx = replace(ctx, hidden=ctx.hidden.double())
    method = build_method("cen_prune")
    (stage,) = method.stages(6)
    found = stage.select(ctx)
    assert found is not None
    assert found.keep.tolist() == searched(ctx)


def searched(ctx: StageContext) -> list[int]:
    """Equations 3 to 7, token by token."""
    features = ctx.visual_hidden
    apart, weight = torch.zeros_like(features), torch.zeros(len(features), dtype=torch.double)
    for item in ctx.items:
        rows = [
            n for n, row in enumerate(ctx.vision_rows.tolist()) if item.start <= row < item.stop
        ]
        mean = sum((features[n] for n in rows), torch.zeros_like(features[0])) / len(rows)
        score = {}
        for n in rows:
            apart[n] = features[n] - mean
            others = [torch.cosine_similarity(features[n], features[m], 0) for m in rows if m != n]
            score[n] = -float(sum(others)) / (len(rows) - 1)
        low, high = min(score.values()), max(score.values())
        for n in rows:
            weight[n] = (score[n] - low) / (high - low)
    unit = apart / apart.norm(dim=1, keepdim=True)
    distance = 1 - unit @ unit.T
    nearest = distance.clone().fill_diagonal_(torch.inf).amin(1)
    picks = [int(nearest.argmax())]
    while len(picks) < ctx.keep:
        gain = weight * distance[picks].amin(0)
        gain[picks] = -torch.inf
        picks.append(int(gain.argmax()))
    return picks


def test_sinks_of_all_frames_lose_what_the_formula_says() -> None:
    found: list[tuple[StageContext, Tensor]] = []

    @dataclass(frozen=True)
    class Seeing(Method):
        corrected = frozenset({"saliency"})
        needs = unibench.Needs(saliency=True)

        def score(self, ctx: StageContext) -> Tensor:
            found.append((ctx, ctx.saliency()))
            return found[-1][1]

    model, inputs = model_of(FAMILY), inputs_of(FAMILY, 0, 0, video=True)
    method = build_method("stop", inner=Seeing(), mu=0.5, gamma=2.0)
    with unibench.prune(model, method, ratio=0.5), torch.no_grad():
        model(**copy.deepcopy(inputs))
    ctx, corrected = found[0]
    plain = replace(ctx, lenses=()).saliency()
    frames = [grid.rows for grid in ctx.grids()]
    assert len(frames) > 1
    shown = torch.stack([plain[rows] / plain[rows].sum() for rows in frames])
    sink = shown.mean(0) ** 2
    sink = (sink - sink.min()) / (sink.max() - sink.min())
    for rows, own in zip(frames, shown, strict=True):
        torch.testing.assert_close(corrected[rows], own - 0.5 * sink)


def test_pictures_have_no_sinks_and_the_row_says_so() -> None:
    model, inputs = model_of(FAMILY), inputs_of(FAMILY, 0, 1)
    with unibench.prune(model, "stop", ratio=0.5) as session, torch.no_grad():
        model(**copy.deepcopy(inputs))
    assert "stop: no frames, so that nothing is taken off" in session.notes


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (
            ["method=zoo_prune", "wrap=[cen_prune]"],
            ["method=cen_prune", "method.inner=zoo_prune"],
        ),
        (
            ["method=fastv", "method.layer=3", "wrap=[{name: debias, prior: random:0}]"],
            ["method=debias", "method.prior=random:0", "method.inner={name: fastv, layer: 3}"],
        ),
        (["wrap=cen_prune"], ["method=cen_prune", "method.inner=divprune"]),
        (
            ["method=divprune", "wrap=[cen_prune, cen_prune]"],
            ["method=cen_prune", "method.inner={name: cen_prune, inner: {name: divprune}}"],
        ),
        (["method=vanilla", "wrap=[cen_prune]"], ["method=vanilla"]),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else None,
)
def test_wrap_is_another_way_to_write_the_wrapper(words: list[str], meant: list[str]) -> None:
    ((one,), (other,)) = (compose_cells(each, sweep=False) for each in (words, meant))
    assert cell_of(one).key == cell_of(other).key


def test_a_sweep_wraps_each_of_its_methods() -> None:
    words = ["method=vanilla,divprune,zoo_prune", "wrap=[cen_prune]", "ratio=0.5"]
    cells = compose_cells(words, sweep=True)
    named = [(cell.method["name"], cell.method.get("inner")) for cell in cells]
    assert named == [("vanilla", None), ("cen_prune", "divprune"), ("cen_prune", "zoo_prune")]
    assert len({cell_of(cell).key for cell in cells}) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=fastv", "wrap=[cen_prune]"], "FastV does not ask, so that nothing would change"),
        (
            ["wrap=[divprune]"],
            "divprune is no wrapper; known: cen_prune, debias, random_like, stop",
        ),
        (["wrap=[cen_prun]"], "Did you mean cen_prune"),
        (["wrap=[3]"], "wrap takes names of wrappers"),
        (["method=fastv", "wrap=[debias]"], "calibrate method=d2pruner"),
    ],
)
def test_mistakes_about_wrappers_are_told_before_anything_is_loaded(
    words: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        compose_cells([*words, "ratio=0.5"], sweep=False)


def test_the_key_knows_what_is_wrapped() -> None:
    keys: set[Any] = set()
    for inner in ("divprune", "greedy_diversity", "{name: dpp, importance: random}"):
        (config,) = compose_cells(["method=cen_prune", f"method.inner={inner}"], sweep=False)
        keys.add(cell_of(config).key)
    assert len(keys) == 3


def test_the_library_wraps_as_the_command_line_does() -> None:
    model, inputs, lasts = model_of(FAMILY), inputs_of(FAMILY, 3, 2), []
    debias = {"name": "debias", "prior": "random:0"}
    calls: list[tuple[Any, dict[str, Any]]] = [
        ("divprune", {}),
        ("divprune", {"wrap": ["cen_prune"]}),
        (build_method("divprune"), {"wrap": "cen_prune"}),
        (build_method("cen_prune", inner="divprune"), {}),
        ("fastv", {"layer": 1, "wrap": [debias]}),
        (build_method("debias", inner=build_method("fastv", layer=1), prior="random:0"), {}),
    ]
    for method, options in calls:
        pruned = unibench.prune(model, method, ratio=0.667, **options, **BESIDES)
        with pruned as session, torch.no_grad():
            model(**copy.deepcopy(inputs), use_cache=True)
        (record,) = session.take_records()
        lasts.append(record.last)
    assert lasts[0] != lasts[1] == lasts[2] == lasts[3]
    assert lasts[4] == lasts[5]
    # the reference of the others is never wrapped, so that it wants no budget
    with unibench.prune(model, "vanilla", wrap=["cen_prune"], **BESIDES):
        pass


@pytest.mark.parametrize(
    ("method", "wrap", "message"),
    [
        ("divprune", ["fastv"], "fastv is no wrapper; known: cen_prune, debias, random_like"),
        ("divprune", ["cen_prun"], "Did you mean cen_prune"),
        ("divprune", [3], "wrap takes names of wrappers"),
        ("fastv", ["cen_prune"], "FastV does not ask, so that nothing would change"),
    ],
)
def test_mistakes_about_wrappers_are_the_same_in_the_library(
    method: str, wrap: list[Any], message: str
) -> None:
    with (
        pytest.raises(UsageError, match=message),
        unibench.prune(model_of(FAMILY), method, ratio=0.5, wrap=wrap, **BESIDES),
    ):
        pass
