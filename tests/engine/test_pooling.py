"""The pooling head of a SigLIP tower: frames and attention as SigLIP itself computes them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from tests.support.methods import Look
from tests.support.models import inputs_of, model_of
from unibench import Needs, StageContext, UsageError
from unibench.budget import Budget
from unibench.models._pooling import open_pooling
from unibench.models.llava_onevision import LlavaOnevision
from unibench.pruning import Session


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP of the shape of the OneVision model's tower, as files."""
    place = tmp_path_factory.mktemp("siglip")
    shape = model_of("llava_onevision").config.vision_config.to_dict()
    torch.manual_seed(0)
    SiglipVisionModel(SiglipVisionConfig(**{**shape, "vision_use_head": True})).save_pretrained(
        place
    )
    return place


def look(folder: Path | None, **what: Any) -> tuple[StageContext, Any]:
    """The context of a prompt of the OneVision model, and what its pooling head gives."""
    model, found = model_of("llava_onevision"), []
    head = lambda: open_pooling(str(folder), torch.device("cpu"), {})  # noqa: E731
    family = LlavaOnevision(model, pooling=None if folder is None else head)

    def see(ctx: StageContext) -> None:
        found.append((ctx, None if ctx.pooling is None else ctx.pooling()))

    method = Look(see, 0, Needs(pooling=True, separators=True, vit_hidden=(-1,)))
    session = Session(family, method, Budget.parse())
    with session.installed(), torch.no_grad():
        model(**copy.deepcopy(inputs_of("llava_onevision", 0, **what)))
    return found[0]


def test_frames_are_what_siglip_makes_of_them(folder: Path) -> None:
    ctx, pooled = look(folder, video=True)
    tower: Any = SiglipVisionModel.from_pretrained(folder).eval()
    whole = getattr(tower, "vision_model", tower)
    pixels = inputs_of("llava_onevision", 0, video=True)["pixel_values_videos"][0]
    inner = model_of("llava_onevision").model.vision_tower
    with torch.no_grad():
        states = inner(pixels, output_hidden_states=True).hidden_states[-1]
        expected = whole.head(whole.post_layernorm(states))
    torch.testing.assert_close(pooled.tiles, expected, atol=1e-5, rtol=1e-4)
    for number, grid in enumerate(grid for grid in ctx.grids() if not grid.separators):
        assert set(pooled.tile[grid.rows].tolist()) == {number}


def test_the_attention_of_the_probe_is_packed_as_the_features_are(folder: Path) -> None:
    ctx, pooled = look(folder, video=True)
    patches = ~ctx.separators
    assert (pooled.attention[patches] > 0).all()
    assert (pooled.attention[~patches] == 0).all()
    by_frame = pooled.attention[patches].view(len(pooled.tiles), -1)
    # a frame is pooled to a quarter of its patches, over which attention sums to one
    torch.testing.assert_close(
        by_frame.sum(1), torch.full((len(pooled.tiles),), 0.25), atol=0.02, rtol=0
    )


def test_tokens_of_a_stitched_picture_know_their_tile(folder: Path) -> None:
    ctx, pooled = look(folder, images=1)
    overview, *_ = ctx.grids()
    assert set(pooled.tile[overview.rows].tolist()) == {0}
    assert int(pooled.tile.max()) < len(pooled.tiles)


def test_a_model_without_it_has_none() -> None:
    assert look(None, video=True)[1] is None


def test_a_checkpoint_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pooling head"):
        open_pooling(str(tmp_path / "nothing"), torch.device("cpu"), {})
