"""Cells that a harness asks together: the answers and scores of each alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.harness.running import HARNESSES, Cells, cards, run
from tests.harness.standins import write
from unibench.inference.record import TIMES

pytestmark = pytest.mark.slow
# before and inside the decoder, and one that is answered by itself
GRID = ("method=divprune,fastv,mustdrop", "timing=false")
KEYS = ("vanilla", "divprune", "fastv", "mustdrop")


def answered(cells: Cells, method: str) -> dict[str, dict[str, Any]]:
    """The samples of a cell, without what says how they were answered."""
    left_out = {*TIMES, "run", "beside"}
    return {
        name: {column: value for column, value in sample.items() if column not in left_out}
        for name, sample in cells.samples("pope", method).items()
    }


@pytest.mark.parametrize("harness", HARNESSES)
def test_a_grid_under_a_harness_is_that_of_its_cells_alone(harness: str, tmp_path: Path) -> None:
    write(tmp_path / "data", harness, [cards(harness)["pope"]], 4)
    alone = run(harness, ["pope"], tmp_path, *GRID)
    fused = run(harness, ["pope"], tmp_path, *GRID, "fuse=cells", out="fused")
    for method in KEYS:
        assert answered(fused, method) == answered(alone, method)
        one, two = alone.rows["pope", method], fused.rows["pope", method]
        assert (one["score"], one["prompts"]) == (two["score"], two["prompts"])
        assert two["prefill_ms"] is None
    beside = {method: fused.samples("pope", method) for method in KEYS}
    assert all(sample["beside"] for sample in beside["fastv"].values())
    assert not any(sample["beside"] for sample in beside["mustdrop"].values())
