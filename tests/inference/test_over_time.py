"""What stayed of each frame of a video, newlines apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.support.records import record
from unibench.inference.over_time import Kept, kept_of, summary
from unibench.pruning.layout import Item, Part, written
from unibench.pruning.record import packed


def mask(count: int, *kept: int) -> str:
    found = torch.zeros(count, dtype=torch.bool)
    found[list(kept)] = True
    return packed(found)


def test_newlines_of_rows_are_no_tokens_of_a_frame() -> None:
    # two frames of 2 x 2 with a newline behind each row: 0 1 n 3 4 n | 6 7 n 9 10 n
    layout = written([Item(0, 12, (Part(2, 2, 2, newline="row"),))])
    kept = kept_of(layout, mask(12, 0, 2, 4, 7, 8, 9, 10), 12)
    assert kept == Kept(grids=(2, 3), sizes=(4, 4), newlines=2, newlines_before=4)


def test_the_newline_behind_a_video_and_those_behind_frames_are_counted_apart() -> None:
    one_token = written([Item(0, 9, (Part(2, 2, 2, newline="end"),))])
    assert kept_of(one_token, mask(9, 1, 8), 9) == Kept((1, 0), (4, 4), 1, 1)
    a_frame = written([Item(0, 10, (Part(1, 2, 2, newline="end"),) * 2)])
    assert kept_of(a_frame, mask(10, 1, 4, 5, 6), 10) == Kept((1, 2), (4, 4), 1, 2)


def test_frames_that_are_pictures_follow_each_other() -> None:
    layout = written([Item(0, 4, (Part(1, 2, 2),)), Item(4, 8, (Part(1, 2, 2),))])
    assert kept_of(layout, mask(8, 0, 5, 6), 8) == Kept((1, 2), (4, 4), 0, 0)


def test_a_layout_that_is_not_known_tells_nothing() -> None:
    assert kept_of(written([Item(0, 4)]), mask(4, 1), 4) is None
    assert kept_of(written([Item(0, 4, (Part(1, 2, 2),))]), "", 4) is None


def test_a_row_tells_what_enters_what_leaves_and_the_mean_of_the_layers() -> None:
    layout = tuple(written([Item(0, 12, (Part(2, 2, 2, newline="row"),))]))
    one = replace(
        record(),
        visual_tokens=12,
        layout=layout,
        last=mask(12, 0, 2, 4),
        processed=(6, 6, 3),
        kept=3,
    )
    found = summary([one, replace(one, processed=(12, 12, 3))])
    assert found["entering"] == 9 and found["leaving"] == 3
    assert found["layer_mean"] == pytest.approx((5 + 9) / 2)
    assert found["newlines"] == 4 and found["newlines_left"] == 1
