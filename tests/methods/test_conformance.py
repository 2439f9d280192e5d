"""What every method must do on every family, at every budget, whatever the prompt."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unibench
from tests.methods._contexts import (
    BESIDES,
    FORMS,
    METHODS,
    PRE,
    PROMPTS,
    RATIOS,
    VIDEO_ONLY,
    build,
    recorded,
    serves,
    under,
)
from tests.support.models import (
    FAMILIES,
    HIDDEN,
    QUICK,
    collate,
    generate,
    inputs_of,
    model_of,
)
from tests.support.turns import Ways, in_turn, once, one_in
from unibench import Method, Selection, StageContext, UsageError, registry
from unibench.api import family_of
from unibench.budget import Budget
from unibench.methods.mustdrop_vit import MustDropVit
from unibench.pruning.refusal import facts_of, refusal

SCENES = (
    "fastvid",
    "flashvid",
    "holitom",
)  # how many tokens a frame keeps depends on the scenes of the video


def select(method: Method, ctx: StageContext) -> tuple[Tensor, Tensor | None]:
    """Kept indices in sequence order, and their new values."""
    assert ctx.family is not None
    if missing := method.wants - ctx.family.provides:
        pytest.skip(f"refused: needs {', '.join(sorted(missing))}")
    (stage,) = method.stages(6)
    try:
        selection = stage.select(ctx)
    except UsageError as error:  # for example a video method on a picture
        pytest.skip(f"refused: {error}")
    assert isinstance(selection, Selection)
    keep, order = selection.keep.sort()
    return keep, None if selection.values is None else selection.values[order]


def _of_pooling(method: Method, ctx: StageContext) -> Callable[[int], bool]:
    return lambda kept: len(ctx.grids()) <= kept <= max(ctx.keep, len(ctx.grids()))


def _of_mustdrop_vit(method: Method, ctx: StageContext) -> Callable[[int], bool]:
    assert isinstance(method, MustDropVit)
    windows = sum(
        (grid.height // method.window) * (grid.width // method.window) for grid in ctx.grids()
    )
    total, saved = len(ctx.visual), method.window**2 - 1
    if method.mode == "threshold":
        return lambda kept: kept in range(total - windows * saved, total + 1, saved)
    return lambda kept: kept == total - saved * min(windows, (total + 1 - ctx.keep) // saved)


def _of_outliers(method: Method, ctx: StageContext) -> Callable[[int], bool]:
    if getattr(method, "mode", "") == "adaptive":
        return lambda kept: 1 <= kept <= len(ctx.visual)
    return lambda kept: kept == ctx.keep


# the only methods that may miss the budget, and the rule that each follows instead
FORMULAS = {
    "pixelprune": lambda method, ctx: lambda kept: kept == len(ctx.visual),  # nothing was dropped
    "pooling": _of_pooling,
    "mustdrop_vit": _of_mustdrop_vit,
    "prumerge": _of_outliers,
    "prumerge_plus": _of_outliers,
}


def every_prompt(name: str, family: str) -> Ways:
    return [(prompt,) for prompt in PROMPTS]


@in_turn("name, family, prompt", PRE, every_prompt, on=1, serves=serves)
def test_the_budget_is_met_with_distinct_tokens(name: str, family: str, prompt: str) -> None:
    method = build(name)
    for ratio in RATIOS:
        ctx = under(recorded(family, prompt), ratio)
        keep, values = select(method, ctx)
        assert keep.dtype == torch.long
        assert keep.device == ctx.hidden.device
        assert (keep[1:] > keep[:-1]).all()
        assert int(keep[0]) >= 0
        assert int(keep[-1]) < len(ctx.visual)
        if method.adaptive:
            assert FORMULAS[name.partition("[")[0]](method, ctx)(len(keep)), (len(keep), ctx.keep)
        elif name != "vanilla":
            assert len(keep) == ctx.keep
        if values is not None:
            assert values.shape == (len(keep), ctx.hidden.shape[1])
            assert values.isfinite().all()


@in_turn("name, family", PRE, once, on=1, serves=serves)
def test_the_same_seed_gives_the_same_choice(name: str, family: str) -> None:
    method, ctx = build(name), under(recorded(family, "images"), 0.667)
    keep, values = select(method, ctx)
    torch.rand(3)  # the global generator must not matter
    again, same = select(method, ctx)
    assert torch.equal(keep, again)
    assert values is None or (same is not None and torch.equal(values, same))
    other, _ = select(method, replace(ctx, seed=1))
    assert torch.equal(keep, other) or "random" in name or name.startswith("zoo_prune")


@in_turn("name, family", PRE, once, on=1, serves=serves)
def test_selections_are_made_in_float32_whatever_the_model(name: str, family: str) -> None:
    method, ctx = build(name), under(recorded(family, "grid", torch.bfloat16), 0.667)
    keep, values = select(method, ctx)
    wide, same = select(method, replace(ctx, hidden=ctx.hidden.float()))
    assert torch.equal(keep, wide)
    assert values is None or (
        same is not None and values.dtype == torch.float32 and torch.equal(values, same)
    )


@pytest.mark.parametrize("name", PRE)
def test_only_text_aware_methods_read_the_question(name: str) -> None:
    if build(name).wants:
        pytest.skip("does not run on every family")
    method, moved = build(name), []
    for family in QUICK:
        ctx = under(recorded(family, "images"), 0.667)
        text = torch.ones(len(ctx.hidden), dtype=torch.bool)
        text[ctx.visual] = False
        other = ctx.hidden.clone()
        other[text] = torch.randn(
            int(text.sum()), other.shape[1], generator=torch.Generator().manual_seed(0)
        )
        moved.append(
            not torch.equal(select(method, ctx)[0], select(method, replace(ctx, hidden=other))[0])
        )
    assert any(moved) == method.text_aware


@in_turn("name, family", PRE, once, on=1, serves=serves)
def test_everything_kept_is_everything(name: str, family: str) -> None:
    method, ctx = build(name), under(recorded(family, "grid"), 0)
    if not method.adaptive:
        keep, _ = select(method, ctx)
        assert torch.equal(keep, torch.arange(len(ctx.visual)))


@pytest.mark.parametrize("name", PRE)
def test_choosing_never_waits_for_the_device(name: str) -> None:
    if getattr(build(name), "mode", "") in ("adaptive", "threshold") or name.startswith(
        ("hiprune", "prumerge_plus", "prunesid", "hired")
    ):
        pytest.skip("a number that depends on the picture is read once")
    if name in VIDEO_ONLY or name.startswith(SCENES):
        pytest.skip("the scenes of a video are read once")
    ctx, method = under(recorded("llava", "grid"), 0.667), build(name)
    clip = ctx.clip
    assert clip is not None
    meta = replace(
        ctx,
        hidden=ctx.hidden.to("meta"),
        visual=ctx.visual.to("meta"),
        vision=_OnMeta(ctx.vision),  # type: ignore[arg-type]
        family=_OnMeta(ctx.family),  # type: ignore[arg-type]
        clip=lambda: tuple(part.to("meta") for part in clip()),  # type: ignore[arg-type, return-value]
    )
    grids, rows = ctx.grids(), ctx.question
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # where the question and the pictures are is known to the host
        patch.setattr(
            StageContext,
            "grids",
            lambda self: [replace(grid, rows=grid.rows.to("meta")) for grid in grids],
        )
        patch.setattr(StageContext, "question", property(lambda self: rows.to("meta")))
        (stage,) = method.stages(6)
        selection = stage.select(meta)  # a meta tensor has no values: reading one raises
    assert selection is not None
    if not method.adaptive:
        assert len(selection.keep) == ctx.keep


class _OnMeta:
    """Hands the tensors of an object out as meta tensors."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        value = getattr(self._inner, name)
        if name == "projector":
            return tuple(copy.deepcopy(layer).to("meta") for layer in value)
        if not callable(value):
            return value
        if name == "project":
            return lambda features: features.new_zeros(*features.shape[:-1], HIDDEN)
        return lambda *args, **kwargs: value(*args, **kwargs).to("meta")


@in_turn("name, family", [*METHODS, *FORMS], once, on=1, serves=serves)
def test_a_run_meets_the_budget_and_leaves_the_model_as_it_was(name: str, family: str) -> None:
    model, method = model_of(family), build(name)
    inputs = inputs_of(family, 2, 2)
    skip_if_for_videos(name)
    ratio = RATIOS[([*METHODS, *FORMS].index(name) + list(FAMILIES).index(family)) % len(RATIOS)]
    skip_if_refused(model, method, ratio)
    with torch.no_grad():
        before, hooks = model(**copy.deepcopy(inputs)).logits, _hooks(model)
        with unibench.prune(model, method, ratio=ratio, **BESIDES) as session:
            pruned = model(**copy.deepcopy(inputs)).logits
        after = model(**copy.deepcopy(inputs)).logits
    assert torch.equal(before, after)
    assert _hooks(model) == hooks
    assert pruned.dtype == before.dtype
    assert pruned.isfinite().all()
    (record,) = session.take_records()
    if method.adaptive or name == "vanilla":
        assert 0 <= record.kept <= record.visual_tokens
    elif name in PRE:
        assert record.processed == (Budget.parse(ratio=ratio).keep(record.visual_tokens),) * len(
            record.processed
        )
    else:
        assert record.kept <= record.visual_tokens


@pytest.mark.parametrize(
    ("name", "family"),
    [("cdpruner[clip]", "qwen2_5_vl"), ("visionzip[official_bug]", "qwen2_5_vl")],
)
def test_a_family_without_the_signal_is_refused_with_what_is_missing(
    name: str, family: str
) -> None:
    method = build(name)
    with (
        pytest.raises(UsageError, match=", ".join(sorted(method.wants))),
        unibench.prune(model_of(family), method, ratio=0.5, **BESIDES),
    ):
        pass


@in_turn("name, family", METHODS, once, on=1, serves=serves, often=one_in(2, METHODS))
def test_a_batch_chooses_as_single_samples_do(name: str, family: str) -> None:
    model, method = model_of(family), build(name)
    samples = [inputs_of(family, seed, images) for seed, images in ((0, 1), (1, 2))]
    skip_if_for_videos(name)
    skip_if_refused(model, method, 0.667)
    with unibench.prune(model, method, ratio=0.667, **BESIDES) as session:
        # generate() numbers positions without the padding, which rotated keys show and a bare
        # forward does not
        generate(model, collate(samples), 1)
        together = _kept(session)
        for row, sample in enumerate(samples):
            generate(model, sample, 1)
            (alone,) = _kept(session)
            assert alone == together[row]


def skip_if_for_videos(name: str) -> None:
    if name in VIDEO_ONLY:
        pytest.skip("the prompt has pictures; see test_videos.py")


def skip_if_refused(model: Any, method: Method, ratio: float) -> None:
    """A refusal comes before a prompt is read; one that came later would fail the test."""
    family = family_of(model)
    budget = Budget.parse(ratio=ratio)
    if reason := refusal(method, budget, type(family), facts_of(family)):
        pytest.skip(f"refused: {reason}")


def _hooks(model: nn.Module) -> list[tuple[int, int]]:
    return [
        (len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()
    ]


def _kept(session: unibench.pruning.Session) -> list[list[list[int]]]:
    """Visual tokens kept by each stage of each sample, by their number within the sample."""
    prompt = session.prompt
    assert prompt is not None
    rank = prompt.visual.cumsum(1) - 1
    rows = range(len(prompt.visual))
    return [
        [
            [] if choice[row] is None else rank[row, choice[row].origin].tolist()
            for choice in prompt.choices
        ]
        for row in rows
    ]  # type: ignore[union-attr]


def test_methods_import_nothing_of_transformers() -> None:
    for card in registry.methods().values():
        source = card.path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) transformers", source, re.M), card.path


def test_only_documented_methods_may_miss_the_budget() -> None:
    assert {name for name in METHODS if name in PRE and build(name).adaptive} == set(FORMULAS)
