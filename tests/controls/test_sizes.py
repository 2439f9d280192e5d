"""``control=resize`` over pictures of any shape."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from PIL import Image

from unibench.budget import Budget
from unibench.compose import compose_cells
from unibench.controls.grids import STEPS
from unibench.controls.prompts import Controlled, Controller
from unibench.errors import UsageError
from unibench.models import LoadedModel
from unibench.models._sources import blueprint

COUNT = 200
RATIOS = (0.5, 0.667, 0.75, 0.889, 0.944, 0.99)


@cache
def loaded(card: str) -> LoadedModel:
    """A published model's processor, without the model."""
    (config,) = compose_cells([f"model={card}", "model.weights=random"], sweep=False)
    architecture, processor = blueprint(config.model)
    token = architecture.image_token_id
    family = SimpleNamespace(visual_kind=lambda ids: (ids == token).long())
    model = SimpleNamespace(device=torch.device("cpu"))
    return LoadedModel(model, processor, cast(Any, family), "", config.model.pixels["native"])


def drawn(count: int) -> Iterator[tuple[Image.Image, float]]:
    """Pictures of aspects from 1:30 to 30:1, each with a ratio."""
    draw = random.Random(0)
    for _ in range(count):
        aspect, pixels = 30 ** draw.uniform(-1, 1), draw.uniform(60, 700) ** 2
        width, height = (max(28, round((pixels * a) ** 0.5)) for a in (aspect, 1 / aspect))
        yield Image.new("RGB", (width, height), (90, 120, 30)), draw.choice(RATIOS)


def tokens(read: LoadedModel, *pieces: Any) -> int:
    inputs = read.read([pieces])
    return int(read.family.visual_kind(inputs["input_ids"]).sum())


def resized(card: str, picture: Image.Image, ratio: float) -> Controlled:
    return Controller("resize", Budget.parse(ratio=ratio))(loaded(card), [picture, "What?"])


@pytest.mark.slow
def test_native_resolution_meets_a_budget_within_the_larger_side_and_never_exceeds_it() -> None:
    for picture, ratio in drawn(COUNT):
        own = loaded("qwen2_5_vl_7b")
        grid = own.read([[picture, "?"]])["image_grid_thw"][0][1:] // 2
        found = resized("qwen2_5_vl_7b", picture, ratio)
        kept = tokens(found.loaded, *found.pieces)
        keep = Budget.parse(ratio=ratio).keep(found.visual_tokens)
        assert found.visual_tokens == int(grid.prod())
        assert 1 <= kept <= keep, (picture.size, ratio)
        assert keep - kept < int(grid.max()), (picture.size, ratio)


@pytest.mark.slow
@pytest.mark.parametrize("card", ["llava_next_7b", "llava_onevision_7b", "smolvlm2_2b"])
def test_tiles_give_the_largest_count_or_a_refusal_with_the_smallest(card: str) -> None:
    own, refused = loaded(card), 0
    for picture, ratio in drawn(COUNT // 3):
        counts = [
            tokens(own, picture.resize((max(1, round(picture.width * step)), max(1, round(picture.height * step)))), "?")
            for step in STEPS
        ]  # fmt: skip
        most = Budget.parse(ratio=ratio).keep(counts[0])
        fitting = [count for count in counts if count <= most]
        if not fitting:
            refused += 1
            with pytest.raises(UsageError, match=f"never fewer than {min(counts)}, .* {most};"):
                resized(card, picture, ratio)
            continue
        found = resized(card, picture, ratio)
        # the largest picture that fits, though tokens need not fall with its size
        assert tokens(found.loaded, *found.pieces) == fitting[0], (picture.size, ratio)
    # SmolVLM enlarges every picture to one size before it cuts tiles: fewer pixels, as many tokens
    assert refused == COUNT // 3 if card == "smolvlm2_2b" else refused < COUNT // 3
