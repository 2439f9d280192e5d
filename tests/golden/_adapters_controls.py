"""Adapters of the controls, which no method is: each compares by itself. Imported by
``_adapters.py``, which registers them.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from tests.golden._adapters import Call, adapter
from unibench.controls import grids, groups_of
from unibench.controls.prompts import OFFICIAL_LIMITS
from unibench.ops import coarser_grid

FACTOR = 28
EDGES = {"min_pixels": 4 * FACTOR**2, "max_pixels": 16384 * FACTOR**2}  # of qwen_vl_utils


@adapter
def control_grid(call: Call) -> None:
    arrays = call.case.arrays
    for full, keep, grid in zip(arrays["full"], arrays["keep"], arrays["grid"], strict=True):
        assert coarser_grid(int(full[0]), int(full[1]), int(keep)) == tuple(grid)


@adapter
def control_resize(call: Call) -> None:
    arrays, divisor = call.case.arrays, int(call.case.params["divisor"])
    if call.case.params["kind"] == "pixels":
        picture = Image.fromarray(arrays["picture"].astype(np.uint8))
        width, height = picture.width // divisor, picture.height // divisor
        assert np.array_equal(grids.resized(picture, width, height), arrays["small"])
        sent = grids.divided(picture, divisor).resize(arrays["sent"].shape[1::-1])
        off = np.abs(np.asarray(sent).astype(int) - arrays["sent"])
        assert off.max() <= 4 and off.mean() < 1  # JPEG libraries differ
        return
    for number, (width, height) in enumerate(arrays["sizes"].tolist()):
        small = grids.divided(Image.new("RGB", (width, height)), divisor)
        assert small.size == tuple(arrays["resized"][number])
        assert _grid(*small.size) == tuple(arrays["grid"][number])
        whole = _grid(width, height)
        assert whole[0] * whole[1] == arrays["tokens_full"][number]


def _grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of tokens that Qwen2-VL makes of a picture, resized twice on the way."""
    limits = {"min_pixels": OFFICIAL_LIMITS["shortest_edge"], "max_pixels": OFFICIAL_LIMITS["longest_edge"]}  # fmt: skip
    first = smart_resize(height, width, factor=FACTOR, **EDGES)
    second = smart_resize(*first, factor=FACTOR, **limits)
    return second[0] // FACTOR, second[1] // FACTOR


@adapter
def control_groups(call: Call) -> None:
    arrays, params = call.case.arrays, call.case.params
    names = [str(name) for name in arrays["doc_id"].tolist()]

    def scores(run: str) -> dict[str, float]:
        present = arrays[f"{run}_present"]
        told = zip(names, arrays[f"{run}_correct"].tolist(), present, strict=True)
        return {name: float(right) for name, right, there in told if there}

    found = groups_of(scores("origin"), scores("down"))
    assert [int(name) for name in found.hard] == arrays["group_a"].tolist()
    assert [int(name) for name in found.easy] == arrays["group_b"].tolist()
    hard, easy = found.scores(scores("method"))
    assert (hard.right, hard.of) == (params["correct_a"], params["total_a"])
    assert (easy.right, easy.of) == (params["correct_b"], params["total_b"])
    assert (hard.percent, easy.percent) == (params["accuracy_a"], params["accuracy_b"])
