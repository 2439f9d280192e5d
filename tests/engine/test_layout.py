"""Pictures, their tiles and rows: what is an overview, what separates, what shares a budget."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import unibench
from tests.support.methods import Look
from tests.support.models import inputs_of, model_of
from tests.support.pictures import anyres_size, stitched_shape
from unibench import Needs, StageContext
from unibench.budget import Budget
from unibench.pruning import Item, Part

NEWLINES = ["llava_next", "llava_next_video", "llava_onevision"]


def context(
    family: str, needs: Needs | None = None, images: int = 1, **options: Any
) -> StageContext:
    """What a stage before the language model sees of a prompt."""
    found: list[StageContext] = []
    with (
        unibench.prune(model_of(family), Look(found.append, 0, needs or Needs()), **options),
        torch.no_grad(),
    ):
        model_of(family)(**copy.deepcopy(inputs_of(family, 0, images)))
    return found[0]


def newlines_of(family: str) -> torch.Tensor:
    """Which of the picture's features are the newline parameter, by their values."""
    model, inputs = model_of(family), inputs_of(family, 0, 1)
    given = {
        key: inputs[key]
        for key in ("pixel_values", "image_sizes", "batch_num_images")
        if key in inputs
    }
    with torch.no_grad():
        (features,) = model.model.get_image_features(**given).pooler_output
    return (features == model.model.image_newline).all(-1)


@pytest.mark.parametrize("family", NEWLINES)
def test_newline_tokens_are_told_from_patches(family: str) -> None:
    ctx = context(family)
    assert torch.equal(ctx.separators, newlines_of(family))
    rows, columns = stitched_shape(anyres_size(0), 2 if family == "llava_onevision" else None)
    (item,) = ctx.items
    assert item.parts == (Part(1, 4, 4, overview=True), Part(1, rows, columns, newline="row"))
    overview, detail, separators = ctx.grids()
    assert (overview.overview, detail.overview, separators.separators) == (True, False, True)
    assert torch.equal(separators.rows, ctx.separators.nonzero()[:, 0])
    assert torch.equal(detail.rows.view(rows, columns)[:, -1] + 1, separators.rows)


@pytest.mark.parametrize("family", NEWLINES)
def test_stages_that_read_the_vision_tower_are_not_shown_newline_tokens(family: str) -> None:
    plain, reading = context(family, ratio=0.5), context(family, Needs(saliency=True), ratio=0.5)
    patches = ~plain.separators
    assert torch.equal(reading.visual, plain.visual[patches]) and torch.equal(
        reading.withheld, plain.visual[~patches]
    )
    assert reading.keep == plain.keep and not reading.separators.any()
    assert [(grid.height, grid.width) for grid in reading.grids()] == [
        (grid.height, grid.width) for grid in plain.grids()[:2]
    ]
    every = context(
        family, Needs(saliency=True), ratio=0.01
    )  # more than there are patches: some newline tokens stay
    assert every.keep == len(every.visual) and 0 < every.spare == plain.total - len(
        every.visual
    ) - round(0.01 * plain.total)


def test_the_thumbnail_of_internvl_is_the_last_tile() -> None:
    ctx = context("internvl", images=2)
    assert [[(part.frames, part.overview) for part in item.parts] for item in ctx.items] == [
        [(2, False), (1, True)],
        [(1, False), (1, True)],
    ]
    assert [grid.overview for grid in ctx.grids()] == [False, False, True, False, True]


@pytest.mark.parametrize("family", ["internvl", "llava_next", "qwen2_5_vl"])
def test_every_tile_has_a_budget_of_its_own_when_asked(family: str) -> None:
    model, budget = model_of(family), Budget.parse(ratio=0.7)
    with unibench.prune(model, "divprune", ratio=0.7, scope="tile") as session, torch.no_grad():
        model(**copy.deepcopy(inputs_of(family, 0, 2)))
    prompt = session.prompt
    assert prompt is not None
    origin = prompt.segments[0].origin[0]
    kept = (prompt.visual[0].cumsum(0) - 1)[origin[prompt.visual[0][origin]]]
    tiles = [tile for item in prompt.items[0] for tile in item.tiles()]
    assert len(tiles) == {"internvl": 5, "llava_next": 4, "qwen2_5_vl": 2}[family]
    for tile in tiles:
        assert int(((kept >= tile.start) & (kept < tile.stop)).sum()) == budget.keep(len(tile))


@pytest.mark.parametrize("family", ["internvl", "qwen2_5_vl"])
def test_the_first_tile_of_a_prompt_and_all_others_have_two_budgets(family: str) -> None:
    model, budget = model_of(family), Budget.parse(ratio=0.7)
    with unibench.prune(model, "divprune", ratio=0.7, scope="first_tile") as session:
        with torch.no_grad():
            model(**copy.deepcopy(inputs_of(family, 0, 2)))
    prompt = session.prompt
    assert prompt is not None
    origin = prompt.segments[0].origin[0]
    kept = (prompt.visual[0].cumsum(0) - 1)[origin[prompt.visual[0][origin]]]
    first, *others = [tile for item in prompt.items[0] for tile in item.tiles()]
    assert int((kept < first.stop).sum()) == budget.keep(len(first))
    assert int((kept >= first.stop).sum()) == budget.keep(sum(map(len, others)))


def test_frames_are_tiles_and_the_last_keeps_the_end() -> None:
    video = Item(5, 5 + 3 * 4 + 1, (Part(3, 2, 2, newline="end"),))
    assert [(tile.start, tile.stop) for tile in video.tiles()] == [(5, 9), (9, 13), (13, 18)]
    assert video.tiles()[-1].separators == [False] * 4 + [True]


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision", "llava_next_video"])
def test_the_frames_of_a_video_know_which_video_they_are_of(family: str) -> None:
    found: list[StageContext] = []
    with unibench.prune(model_of(family), Look(found.append)), torch.no_grad():
        model_of(family)(**copy.deepcopy(inputs_of(family, 0, video=True)))
        model_of(family)(**copy.deepcopy(inputs_of(family, 0, 2)))
    video, pictures = found
    assert {item.video for item in video.items} == {grid.video for grid in video.grids()} == {0}
    assert {item.video for item in pictures.items} == {None}


def test_equal_pictures_of_one_grid_are_frames_where_frames_come_as_pictures() -> None:
    found: list[StageContext] = []
    model = model_of("internvl")
    with unibench.prune(model, Look(found.append)), torch.no_grad():
        model(**copy.deepcopy(inputs_of("internvl", 0, video=True)))
        model(**copy.deepcopy(inputs_of("internvl", 0, 3)))
    video, pictures = found
    assert [item.video for item in video.items] == [0] * 3
    assert [item.video for item in pictures.items] == [None] * 3


@pytest.mark.parametrize("shown", [False, True])
def test_a_stage_that_reads_the_tower_may_ask_for_the_separators(shown: bool) -> None:
    ctx = context("llava_next", Needs(vit_attention=(-1,), separators=shown))
    assert bool(ctx.separators.any()) == shown
    assert ctx.vision is not None
    assert len(ctx.vision.received(-1, fill=-1.0)) == len(ctx.visual)
    assert bool((ctx.vision.received(-1, fill=-1.0) == -1).any()) == shown
