"""Controls of what a harness asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.running import HARNESSES, cards, run
from tests.harness.standins import write


@pytest.mark.slow
@pytest.mark.parametrize("harness", HARNESSES)
def test_our_own_model_object_is_asked_of_less(harness: str, tmp_path: Path) -> None:
    write(tmp_path / "data", harness, [cards(harness)["pope"]], 6)
    words = ["model=tiny_qwen2_5_vl", "convention=model", "ratio=0.75"]
    cells = run(harness, ["pope"], tmp_path, *words, "control=resize,blind,blind_grey")
    whole, small, none, grey = (
        cells.rows["pope", name] for name in ("vanilla", "resize", "blind", "blind_grey")
    )
    assert whole["tokens_in"] == small["tokens_in"] == none["tokens_in"] == grey["kept_mean"]
    assert 0 < small["kept_mean"] <= whole["tokens_in"] / 4 + 0.5
    assert none["kept_mean"] == 0 and none["n"] == whole["n"] == 6
    assert small["tflops"] < whole["tflops"]
    questions = [sample["question"] for sample in cells.samples("pope", "resize").values()]
    assert questions == [sample["question"] for sample in cells.samples("pope", "blind").values()]
