"""Signals that the methods of this folder read, against what the model itself says."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.methods._contexts import EVERYTHING, recorded
from tests.support.methods import Look
from tests.support.models import families, inputs_of, model_of
from unibench import Needs, StageContext

CLS = ("llava", "internvl")


def look(
    family: str, needs: Needs = EVERYTHING, images: int = 1, seed: int = 1
) -> tuple[StageContext, Any]:
    found: list[StageContext] = []
    model, inputs = model_of(family, "eager"), inputs_of(family, seed, images)
    with unibench.prune(model, Look(found.append, 0, needs)), torch.no_grad():
        model(**copy.deepcopy(inputs))
    return found[0], (model, inputs)


@families
@pytest.mark.parametrize("images", [1, 3])
def test_grids_hold_every_token_once_in_raster_order(family: str, images: int) -> None:
    ctx, _ = look(family, images=images)
    grids = ctx.grids()
    assert torch.equal(
        torch.cat([grid.rows for grid in grids]).sort().values, torch.arange(len(ctx.visual))
    )
    assert all(torch.equal(grid.rows, grid.rows.sort().values) for grid in grids)
    assert all(len(grid.rows) == grid.height * grid.width for grid in grids)
    assert [(grid.height, grid.width) for grid in grids] == [
        (part.height, part.width)
        for item in ctx.items
        for part in item.parts
        for _ in range(part.frames)
    ]


@families
def test_what_earlier_stages_left_of_a_picture_is_one_row(family: str) -> None:
    ctx = recorded(family, "one_token")
    (grid,) = ctx.grids()
    assert (grid.height, grid.width) == (1, 1)


@families
@pytest.mark.parametrize("images", [1, 3])
def test_total_attention_received_is_one_on_average(family: str, images: int) -> None:
    ctx, _ = look(family, images=images)
    assert ctx.vision is not None and ctx.family is not None
    for layer in (ctx.family.object_layer, -1):
        total = ctx.vision.received(layer, total=True)
        spread = 1e-5 if not ctx.family.prefix_tokens else 0.5  # the prefix token has its share
        assert float(total.mean()) == pytest.approx(1, abs=spread)


@pytest.mark.parametrize("family", CLS)
def test_attention_of_cls_on_patches_alone_is_its_row_renewed(family: str) -> None:
    ctx, (model, inputs) = look(family)
    assert ctx.vision is not None
    with torch.no_grad():
        tower = model.model.vision_tower
        maps = tower(inputs["pixel_values"], output_attentions=True).attentions
    rows = maps[-2][:, :, 0, 1:]  # [tiles, heads, patches]
    renewed = (rows / rows.sum(-1, keepdim=True)).mean(1)
    torch.testing.assert_close(
        ctx.vision.cls(-2, patches_only=True), _packed(renewed, model, family), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(
        ctx.vision.cls(-2), _packed(rows.mean(1), model, family), rtol=1e-4, atol=1e-6
    )


def _packed(rows: Tensor, model: Any, family: str) -> Tensor:
    if family == "llava":
        return rows.flatten()
    side = int(rows.shape[1] ** 0.5)
    return rows.view(len(rows), side // 2, 2, side // 2, 2).mean((2, 4)).flatten()


@pytest.mark.parametrize("family", CLS)
def test_the_cls_state_is_that_of_the_tokens_own_tile(family: str) -> None:
    ctx, (model, inputs) = look(family, images=3)
    assert ctx.vision is not None
    with torch.no_grad():
        states = model.model.vision_tower(
            inputs["pixel_values"], output_hidden_states=True
        ).hidden_states[-1][:, 0]
    expected = states.repeat_interleave(len(ctx.visual) // len(states), 0)
    torch.testing.assert_close(ctx.vision.cls_hidden(-1), expected, rtol=1e-4, atol=1e-5)


def test_attention_over_the_whole_picture_ignores_windows() -> None:
    ctx, (model, _) = look("qwen2_5_vl", Needs(vit_attention=(0, 1)), images=3)
    assert ctx.vision is not None
    assert model.model.visual.fullatt_block_indexes[0] == 1
    full = ctx.vision.received(1, total=True)
    torch.testing.assert_close(ctx.vision.received(1, total=True, whole=True), full)
    windowed, whole = (
        ctx.vision.received(0, total=True),
        ctx.vision.received(0, total=True, whole=True),
    )
    assert not torch.allclose(windowed, whole, rtol=1e-2)
    for item in ctx.items:  # every picture attends within itself
        assert float(whole[item.start : item.stop].mean()) == pytest.approx(1, abs=1e-5)


def test_the_object_layer_is_the_published_one() -> None:
    from unibench.models.qwen2_5_vl import Qwen2_5VL
    from unibench.pruning.family import Family

    class Clip24(Family):
        vit_blocks = [torch.nn.Identity()] * 24  # type: ignore[assignment]

        def __init__(self) -> None: ...

    class Qwen32(Qwen2_5VL):
        vit_blocks = [torch.nn.Identity()] * 32  # type: ignore[assignment]
        vision_tower = type("Tower", (), {"fullatt_block_indexes": [7, 15, 23, 31]})()  # type: ignore[assignment]

        def __init__(self) -> None: ...

    assert Clip24().object_layer == 8
    assert Qwen32().object_layer == 15
