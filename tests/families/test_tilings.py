"""Where the tiles of a picture lie, against the places that the model itself gives its patches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import unibench
from tests.support.methods import Look
from tests.support.models import inputs_of, model_of
from unibench import Needs, StageContext
from unibench.pruning.layout import Tiling


def seen(family: str, seed: int, images: int) -> tuple[StageContext, dict[str, Any]]:
    found: list[StageContext] = []
    inputs = inputs_of(family, seed, images)
    with unibench.prune(model_of(family), Look(found.append, 0, Needs(vit_hidden=(-1,)))):
        with torch.no_grad():
            model_of(family)(**inputs)
    return found[0], inputs


@pytest.mark.parametrize("family", ["llava_next", "llava_onevision"])
@pytest.mark.parametrize("seed", range(4))
def test_every_token_of_a_stitched_picture_is_of_the_tile_that_it_shows(
    family: str, seed: int
) -> None:
    ctx, inputs = seen(family, seed, 1 if family == "llava_onevision" else 2)
    model = model_of(family)
    for number, (rows, tiling) in enumerate(ctx.tilings()):
        assert torch.equal(rows.sort().values, rows)
        if tiling is None:
            continue
        size = inputs["image_sizes"][number]
        side = tiling.height
        joined = torch.cat([tiling.overview, *tiling.tiles])
        assert torch.equal(joined.sort().values, rows)
        # the tile of each patch, packed by the model's own function
        marks = torch.arange(-1.0, len(tiling.tiles))[:, None, None].expand(-1, side**2, 1)
        options = {"vision_feature_select_strategy": "default"}
        if family == "llava_onevision":
            options = {"vision_aspect_ratio": "anyres_max_99"}  # not scaled down
        (packed,), _ = model.model.pack_image_features(
            [marks], size[None], image_newline=torch.full((1,), -2.0), **options
        )
        tiles = packed[:, 0][packed[:, 0] != -2]
        if len(tiles) == len(rows):  # not scaled down by the model either
            first = int(rows[0])
            for tile, members in enumerate(tiling.tiles):
                assert (tiles[members - first] == tile).all()


def picture(down: int, across: int, side: int, seed: int) -> torch.Tensor:
    """Tiles of a smooth random picture, and last its overview, ``[tiles + 1, 3, side, side]``."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 2 * down, 2 * across, generator=g)
    size = (down * side, across * side)
    whole = torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0]
    tiles = whole.unflatten(1, (down, side)).unflatten(3, (across, side)).permute(1, 3, 0, 2, 4)
    small = torch.nn.functional.interpolate(whole[None], (side, side), mode="area")
    return torch.cat([tiles.flatten(0, 1), small])


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 3), (3, 2), (1, 6), (6, 1), (3, 4), (2, 2)])
def test_the_arrangement_of_unstitched_tiles_is_read_off_the_overview(
    shape: tuple[int, int],
) -> None:
    from unibench.models.internvl import InternVL
    from unibench.pruning.family import VisionCall

    family = InternVL(model_of("internvl"))
    before, pixels = picture(1, 2, 56, 1), picture(*shape, 56, 2)
    joined = torch.cat([before, pixels])
    call = VisionCall("image", {"pixel_values": joined}, tokens=4 * len(joined))
    assert family.tiles_across(call, 4 * len(before), shape[0] * shape[1]) == shape[1]


def test_a_picture_in_one_tile_has_no_tiling() -> None:
    for family in ("llava", "qwen2_5_vl"):
        ctx, _ = seen(family, 0, 2)
        assert [tiling for _, tiling in ctx.tilings()] == [None, None]


def test_tiles_of_internvl_are_those_in_front_of_the_overview() -> None:
    ctx, _ = seen("internvl", 0, 1)
    ((rows, tiling),) = ctx.tilings()
    if tiling is not None:
        assert isinstance(tiling, Tiling)
        assert torch.equal(torch.cat([*tiling.tiles, tiling.overview]), rows)
