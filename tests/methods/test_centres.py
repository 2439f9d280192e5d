"""Methods that say which tokens their merged ones stand for."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache

import pytest
import torch

import unibench
from tests.methods._contexts import (
    BEFORE_THE_TOWER,
    BESIDES,
    METHODS,
    PRE,
    VIDEO_ONLY,
    build,
    recorded,
    under,
    video_of,
)
from tests.support.methods import Look
from tests.support.models import QUICK, inputs_of, model_of
from tests.support.turns import some_of
from unibench import Needs, Selection, StageContext, UsageError, registry
from unibench.api import build_method

SAYING = [name for name in METHODS if registry.method(name).load().centres is True]
OVER_TIME = ("aim", "fastvid", "flashvid", "holitom", "prunevid", "sttm")
# random pictures have no frames that resemble each other, no windows of like patches, and grids
# that are too small for a tree
UNLIKE = ("framefusion", "holitom", "mustdrop", "sttm")
PARTS = [name for name in PRE if name.partition("[")[0] in SAYING]


def selection_of(name: str, family: str, ratio: float = 0.667) -> Selection:
    method, ctx = build(name), under(recorded(family, "images"), ratio)
    if missing := method.wants - ctx.family.provides:
        pytest.skip(f"refused: needs {', '.join(sorted(missing))}")
    (stage,) = method.stages(6)
    found = stage.select(ctx)
    assert found is not None
    return found


@pytest.mark.parametrize("family", QUICK)
@pytest.mark.parametrize("name", PARTS)
def test_every_row_that_is_new_has_members_among_the_tokens_shown(name: str, family: str) -> None:
    found, ctx = selection_of(name, family), recorded(family, "images")
    if found.values is None:
        pytest.skip("merges inside the tower, which this context has not seen")
    assert found.members is not None
    into, given = found.members()
    assert len(into) == len(given)
    if name in OVER_TIME:
        return  # pictures leave them nothing to merge
    assert len(into) > 0
    assert int(into.min()) >= 0 and int(into.max()) < len(found.keep)
    assert int(given.min()) >= 0 and int(given.max()) < len(ctx.visual)
    old = ctx.visual_hidden[found.keep]
    new = (found.values - old).abs().amax(1) > 1e-3 * old.abs().amax()
    # the CLS row stands for no token of the picture
    stray = {len(new) - 1} if name == "visionzip[official_bug]" else set()
    assert set(new.nonzero()[:, 0].tolist()) <= {*into.tolist(), *stray}
    pairs = set(zip(into.tolist(), given.tolist(), strict=True))
    assert len(pairs) == len(into)


@pytest.mark.parametrize("name", [name for name in PRE if not build(name).centres])
def test_a_method_that_says_nothing_merges_nothing(name: str) -> None:
    if name.partition("[")[0] in (*VIDEO_ONLY, *BEFORE_THE_TOWER):
        pytest.skip("chooses among tokens of frames, or of pixels")
    assert selection_of(name, "llava").values is None and not build(name).encoder(4)


@cache
def of_frames() -> StageContext:
    """A video of a few scenes, as a method in front of the language model sees it."""
    found = list[StageContext]()
    everything = Needs(vit_attention=(-1,), saliency=True, separators=True)
    with (
        unibench.prune(model_of("llava_onevision"), Look(found.append, 0, everything), **BESIDES),
        torch.no_grad(),
    ):
        model_of("llava_onevision")(**video_of("llava_onevision", 1))
    return found[0]


@pytest.mark.parametrize("name", OVER_TIME)
def test_members_over_time_are_the_tokens_that_a_row_is_made_of(name: str) -> None:
    ctx = under(of_frames(), 0.5)
    hidden = ctx.hidden.clone().requires_grad_(True)
    # frames are so small that the picks alone meet the budget
    method = build_method("flashvid", alpha=0.2) if name == "flashvid" else build(name)
    stage = method.stages(6)[0]
    with torch.enable_grad():
        found = stage.select(replace(ctx, hidden=hidden))
        assert found is not None and found.values is not None and found.members is not None
        into, given = found.members()
        assert bool((found.keep[into] != given).any())
        for row in range(0, len(found.keep), 5):
            (slope,) = torch.autograd.grad(found.values[row].sum(), hidden, retain_graph=True)
            used = (slope[ctx.visual].abs().amax(1) > 0).nonzero()[:, 0].tolist()
            members = sorted(given[into == row].tolist()) or [int(found.keep[row])]
            assert members == used


def test_windows_that_were_merged_in_the_tower_stand_in_their_middle() -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 0, 1)
    with (
        unibench.prune(
            model, build("mustdrop_vit"), ratio=0.5, positions="centre", **BESIDES
        ) as session,
        torch.no_grad(),
    ):
        model(**inputs)
    assert session.prompt is not None
    choice = next(choice for (choice,) in session.prompt.choices if choice is not None)
    assert choice.members is not None
    into, given = choice.members
    first = int((inputs["input_ids"][0] == model.config.image_token_id).nonzero()[0, 0])
    side = math.isqrt(int((inputs["input_ids"][0] == model.config.image_token_id).sum()))
    sizes = set()
    for row in into.unique():
        y, x = (given[into == row] - first) // side, (given[into == row] - first) % side
        sizes.add(len(y))
        if len(y) > 1:
            assert len(y) == 9 and int(y.max() - y.min()) == int(x.max() - x.min()) == 2
            assert int(row) == int(given[into == row].max())  # the row itself is the last patch's
    assert sizes == {1, 9}


@pytest.mark.parametrize("family", QUICK)
@pytest.mark.parametrize("name", ["pooling", "vscan", "aim"])
def test_members_are_the_tokens_that_a_row_is_made_of(name: str, family: str) -> None:
    ctx = under(recorded(family, "images"), 0.667)
    hidden = ctx.hidden.clone().requires_grad_(True)
    stage = build(name).stages(6)[0]
    with torch.enable_grad():
        found = stage.select(replace(ctx, hidden=hidden))
        assert found is not None and found.values is not None and found.members is not None
        into, given = found.members()
        for row in range(0, len(found.keep), 3):
            (slope,) = torch.autograd.grad(found.values[row].sum(), hidden, retain_graph=True)
            used = (slope[ctx.visual].abs().amax(1) > 0).nonzero()[:, 0]
            assert sorted(given[into == row].tolist()) == used.tolist()


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava"])
@some_of("name", SAYING, 3)
def test_they_run_with_centred_positions_and_keep_the_same_number(name: str, family: str) -> None:
    model, inputs = model_of(family), inputs_of(family, 0, 2)
    counts, logits, moved = [], [], False
    ratio = 0.5 if name in OVER_TIME else 0.889  # few tokens of a frame leave none for clusters
    for positions in ("original", "centre"):
        try:
            with (
                unibench.prune(
                    model, build(name), ratio=ratio, positions=positions, **BESIDES
                ) as session,
                torch.no_grad(),
            ):
                logits.append(model(**copy.deepcopy(inputs), use_cache=True).logits)
        except UsageError as error:
            pytest.skip(f"refused: {error}")  # a video method on pictures
        (record,) = session.take_records()
        counts.append(record.processed)
        assert session.prompt is not None
        chosen = [choice for (choice,) in session.prompt.choices if choice is not None]
        groups = [choice.members for choice in chosen if choice.members is not None]
        moved = any(bool((into != given).any()) for into, given in groups)
        assert bool(logits[-1].isfinite().all())
    assert counts[0][0] == counts[1][0]
    assert moved or name in UNLIKE
    assert moved != torch.equal(*(each[:, -1] for each in logits))
