"""On each family, the token that a coloured patch changes most is painted at that patch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unibench
from tests.support import checkpoints
from tests.support.methods import Look
from tests.support.models import QUICK
from unibench import StageContext
from unibench.models import LoadedModel, load
from unibench.plots.overlay import of_pictures, views
from unibench.pruning.layout import WHOLE, Box, crop_seen

PATCH: Box = (0.625, 0.25, 0.75, 0.5)  # one token of two tiles of 4 x 4 beside each other
MIDDLE = (0.6875, 0.375)
VIDEOS = ("qwen2_5_vl", "llava_next_video", "llava_onevision")


def picture(*, marked: bool) -> Image.Image:
    """White, with or without a coloured patch."""
    made = Image.new("RGB", (224, 112), "white")
    if marked:
        made.paste(
            "red",
            tuple(round(share * side) for share, side in zip(PATCH, made.size * 2, strict=True)),
        )  # type: ignore[arg-type]
    return made


def seen_by(
    loaded: LoadedModel, pictures: Sequence[Image.Image], modality: str = "image"
) -> StageContext:
    found: list[StageContext] = []
    inputs = loaded.inputs(["What is this?"], [pictures], modality)
    with unibench.prune(loaded.model, Look(found.append, 0)), torch.inference_mode():
        loaded.model(**inputs)
    return found[0]


def small(family: str, place: Path) -> LoadedModel:
    torch.manual_seed(0)
    return load(checkpoints.spec_of(family, path=str(checkpoints.save(family, place))))


def lit(view: Image.Image) -> tuple[Box, float] | None:
    """The box of what is not dark, and its share of the view; None where all is dark."""
    bright = np.asarray(view.convert("L")) == 255
    if not bright.any():
        return None
    (top, left), (bottom, right) = np.argwhere(bright).min(0), np.argwhere(bright).max(0) + 1
    return (left / view.width, top / view.height, right / view.width, bottom / view.height), float(
        bright.mean()
    )


def holds(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in checkpoints.SETTINGS
    ],
)
def test_the_painted_cell_is_the_patch(family: str, tmp_path: Path) -> None:
    loaded = small(family, tmp_path)
    blank, marked = (seen_by(loaded, [picture(marked=flag)]) for flag in (False, True))
    change = (marked.visual_hidden - blank.visual_hidden).norm(dim=-1)
    change[marked.separators] = 0
    (item,) = of_pictures(marked.items, 1)
    seen, start = loaded.seen(picture(marked=True)), 0
    for number, part in enumerate(item.parts):  # tiles, and the overview beside them
        mask = torch.zeros(len(item), dtype=torch.bool)
        mask[start + int(change[start : start + len(part)].argmax())] = True
        start += len(part)
        shown = [lit(view) for view in views([picture(marked=False)], item, mask, seen)]
        assert [place is not None for place in shown] == [
            other == number for other in range(len(item.parts))
        ]
        place = shown[number]
        assert place is not None and holds(place[0], MIDDLE), f"{part} is painted at {place}"
        area = (seen[2] - seen[0]) * (seen[3] - seen[1]) / (part.frames * part.height * part.width)
        assert place[1] == pytest.approx(area, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("family", VIDEOS)
def test_the_painted_cell_is_in_the_frame_that_has_the_patch(family: str, tmp_path: Path) -> None:
    loaded = small(family, tmp_path)
    frames = [picture(marked=number >= 2) for number in range(4)]  # in pairs, as Qwen joins frames
    blank, marked = (
        seen_by(loaded, shown, "video") for shown in ([picture(marked=False)] * 4, frames)
    )
    change = (marked.visual_hidden - blank.visual_hidden).norm(dim=-1)
    change[marked.separators] = 0
    (item,) = marked.items
    mask = torch.arange(len(item)) == change.argmax()
    shown = [lit(view) for view in views([picture(marked=False)] * 4, item, mask, _box(loaded))]
    (number,) = [number for number, place in enumerate(shown) if place is not None]
    assert number >= len(shown) // 2
    place = shown[number]
    assert place is not None and holds(place[0], MIDDLE)


def _box(loaded: LoadedModel) -> Box:
    """The part of a frame that the processor of videos hands on: all, or the middle."""
    cut = getattr(loaded.processor.video_processor, "do_center_crop", False)
    return crop_seen(224, 112, (56, 56), 56) if cut else WHOLE
