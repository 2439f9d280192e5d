"""Where a kept token shows on the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from unibench.plots.overlay import (
    GAP,
    SHADE,
    SIDE,
    heated,
    places,
    side_by_side,
    tiles,
    views,
)
from unibench.pruning.layout import WHOLE, Box, Item, Part, crop_seen, read, written


def white(width: int = 336, height: int = 336) -> Image.Image:
    return Image.new("RGB", (width, height), "white")


def bright(view: Image.Image) -> np.ndarray:
    """Places that are not darkened, ``[height, width]``."""
    return np.asarray(view.convert("L")) == 255


def only(count: int, *kept: int) -> torch.Tensor:
    mask = torch.zeros(count, dtype=torch.bool)
    mask[list(kept)] = True
    return mask


def test_a_kept_token_is_its_cell_and_nothing_else() -> None:
    (view,) = views([white()], Item(0, 144, (Part(1, 12, 12),)), only(144, 2 * 12 + 5))
    expected = np.zeros((SIDE, SIDE), dtype=bool)
    expected[56:84, 140:168] = True  # cells are 28 pixels
    assert (bright(view) == expected).all()
    assert max(view.getpixel((0, 0))) < 255 - SHADE[3] + 64  # type: ignore[type-var]


def test_tiles_stand_in_raster_order_and_the_overview_apart() -> None:
    layout = (Part(2, 4, 4), Part(1, 4, 4, overview=True))
    picture = white(672, 336)  # two tiles side by side
    detail, overview = views([picture], Item(0, 48, layout), only(48, 16, 47))
    assert detail.size == overview.size == (336, 168)
    lit = np.argwhere(bright(detail))
    assert lit.min(0).tolist() == [0, 168] and lit.max(0).tolist() == [
        41,
        209,
    ]  # first token of the right tile
    assert np.argwhere(bright(overview)).min(0).tolist() == [126, 252]  # last token of the overview


def test_newline_tokens_have_no_place() -> None:
    item = Item(0, 6, (Part(1, 2, 2, newline="row"),))
    (view,) = views([white()], item, only(6, 2, 5))
    assert not bright(view).any()
    (view,) = views([white()], item, only(6, 3))
    assert np.argwhere(bright(view)).min(0).tolist() == [168, 0]


def test_each_frame_of_a_video_is_a_view() -> None:
    frames = [Image.new("RGB", (336, 336), (255, 255, 255)) for _ in range(4)]
    found = views(frames, Item(0, 8, (Part(2, 2, 2),)), only(8, 4))
    assert [bool(bright(view).any()) for view in found] == [False, True]


def test_a_crop_sees_the_middle() -> None:
    assert crop_seen(672, 336, (336, 336), 336) == pytest.approx((0.25, 0.0, 0.75, 1.0))
    assert crop_seen(672, 336, None, None) == WHOLE
    box: Box = (0.25, 0.0, 0.75, 1.0)
    (view,) = views([white(672, 336)], Item(0, 4, (Part(1, 2, 2),)), only(4, 0), box)
    lit = np.argwhere(bright(view))
    assert lit.min(0).tolist() == [0, 84] and lit.max(0).tolist() == [83, 167]


@pytest.mark.parametrize(
    ("count", "aspect", "columns"),
    [(1, 3.0, 1), (6, 1.5, 3), (6, 0.6, 2), (12, 1.3, 4), (5, 1.0, 1)],
)
def test_tiles_are_arranged_as_the_picture_is_shaped(
    count: int, aspect: float, columns: int
) -> None:
    boxes = tiles(count, aspect)
    assert len(boxes) == count
    assert len({box[0] for box in boxes}) == columns
    assert sum(
        (right - left) * (bottom - top) for left, top, right, bottom in boxes
    ) == pytest.approx(1)


def test_a_picture_without_a_layout_is_shown_whole() -> None:
    (view,) = views([white()], Item(0, 9), only(9))
    assert bright(view).all()


def test_methods_stand_side_by_side() -> None:
    sheet = side_by_side({"divprune": [white(100, 80)], "fastv": [white(100, 80), white(100, 80)]})
    assert sheet.size == (200 + GAP, 16 + 2 * (80 + GAP))


def test_many_methods_stand_in_rows() -> None:
    sheet = side_by_side({str(number): [white(100, 80)] for number in range(12)})
    assert sheet.size == (5 * (100 + GAP) - GAP, 3 * (16 + 80 + GAP))


def test_a_heat_map_is_dark_where_scores_are_low_and_clear_without_one() -> None:
    shares = torch.tensor([0.0, 1.0, float("nan"), -torch.inf])
    (view,) = heated([white(64, 64)], places([(64, 64)], Item(0, 4, (Part(1, 2, 2),))), shares)
    quarter = SIDE // 4
    spots = [view.getpixel((x, y)) for y in (quarter, 3 * quarter) for x in (quarter, 3 * quarter)]
    low, high, none, barred = (tuple(spot) for spot in spots if isinstance(spot, tuple))
    assert none == (255, 255, 255) and low == barred
    assert low[2] > low[0] and high[0] > high[2]


def test_a_layout_is_read_as_it_was_written() -> None:
    items = (Item(0, 5, (Part(1, 2, 2, newline="end"),)), Item(5, 8))
    assert read(written(items)) == items
