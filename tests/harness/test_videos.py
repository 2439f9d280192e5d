"""Videos in a real worker: VideoMME, Vinoground, and COCO on models for videos (TrimTokenator, table 7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.running import assert_end_to_end, run
from tests.harness.standins import write
from tests.support.checkpoints import SETTINGS, save

pytestmark = pytest.mark.slow
SMALL = {  # configured models by family, on small random checkpoints
    "llava_next_video": "llava_next_video_7b",
    "llava_onevision": "llava_onevision_7b",
    "qwen2_5_vl": "qwen2_5_vl_7b",
    "internvl": "internvl3_1b",
}


def small(family: str, folder: Path) -> list[str]:
    """A configured model on a small random checkpoint of its architecture, with the checkpoint's own picture sizes."""
    settings = [f"model.processor.{key}={value}" for key, value in SETTINGS[family].items() if key == "image_grid_pinpoints"]
    return [f"model={SMALL[family]}", f"model.path={save(family, folder)}", "model.dtype=float32", "model.device=cpu", *settings]


@pytest.mark.parametrize("task", ["videomme"])
def test_video_benchmarks_end_to_end(task: str, tmp_path: Path) -> None:
    write(tmp_path / "data", "lmms_eval", [task], 24)
    assert_end_to_end(run("lmms_eval", [task], tmp_path), {task: task})
