"""Videos in a real worker: VideoMME, Vinoground, and COCO on a model for videos (TrimTokenator,
table 7).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.running import Cells, assert_end_to_end, assert_scores, run
from tests.harness.standins import write
from tests.support.checkpoints import SETTINGS, save
from unibench.budget import Budget

pytestmark = pytest.mark.slow
SMALL = {  # configured models by family, on small random checkpoints
    "llava_next_video": "llava_next_video_7b",
    "llava_onevision": "llava_onevision_7b",
    "qwen2_5_vl": "qwen2_5_vl_7b",
    "internvl": "internvl3_1b",
}
PICTURE_SIZES = ("size", "crop_size", "image_grid_pinpoints")
ITEMS = {"internvl": 4}  # frames apart in the prompt; elsewhere the video is one item
# its processor refuses a video of fewer frames than it is to take, 32 by lmms-eval's class
FRAMES = {"internvl": ["video.frames=4"]}


def small(family: str, folder: Path) -> list[str]:
    """A configured model on a small random checkpoint of its architecture, with that checkpoint's
    sizes of pictures.
    """
    settings = [
        f"model.processor.{key}={value}".replace("'", "")
        for key, value in SETTINGS[family].items()
        if key in PICTURE_SIZES
    ]
    return [
        f"model={SMALL[family]}",
        f"model.path={save(family, folder)}",
        "model.dtype=float32",
        "model.device=cpu",
        *settings,
    ]


def test_video_benchmarks_end_to_end(tmp_path: Path) -> None:
    write(tmp_path / "data", "lmms_eval", ["videomme"], 24)
    assert_end_to_end(run("lmms_eval", ["videomme"], tmp_path), {"videomme": "videomme"})


def test_video_benchmarks_that_the_tiny_model_was_never_taught_to_answer(tmp_path: Path) -> None:
    """Vinoground asks for one character: the tiny model names one that it sees, or says nothing,
    which must not end the scoring.
    """
    write(tmp_path / "data", "lmms_eval", ["vinoground"], 24)
    cells = run("lmms_eval", ["vinoground"], tmp_path, "generation.max_new_tokens=1")
    assert_kept(cells, "vinoground", items=1)
    assert "" in cells.answers("vinoground", "vanilla").values()


@pytest.mark.parametrize("family", SMALL)
def test_every_video_family_under_both_scopes(family: str, tmp_path: Path) -> None:
    write(tmp_path / "data", "lmms_eval", ["videomme"], 4)
    model = [*small(family, tmp_path / "checkpoint"), *FRAMES.get(family, [])]
    for scope in ("sequence", "item"):
        cells = run("lmms_eval", ["videomme"], tmp_path, *model, f"budget.scope={scope}", out=scope)
        assert_kept(cells, "videomme", items=ITEMS.get(family, 1) if scope == "item" else 1)


@pytest.mark.java
@pytest.mark.parametrize("scope", ["sequence", "item"])
def test_coco_on_a_model_for_videos(scope: str, tmp_path: Path) -> None:
    write(tmp_path / "data", "lmms_eval", ["coco2017_cap_val"], 4)
    model = small("llava_next_video", tmp_path / "checkpoint")
    assert_kept(
        run("lmms_eval", ["coco_cap"], tmp_path, *model, f"budget.scope={scope}"),
        "coco_cap",
        items=1,
    )


def assert_kept(cells: Cells, task: str, items: int) -> None:
    """Scores are right and exactly the budget is kept: of each item, where there are several."""
    name = {"coco_cap": "coco2017_cap_val"}.get(task, task)
    for method in ("vanilla", "divprune"):
        assert_scores(cells, task, name, method)
    vanilla = cells.samples(task, "vanilla")  # read once: Vinoground has two thousand
    for key, sample in cells.samples(task, "divprune").items():
        full = vanilla[key]["kept"]
        assert sample["visual_tokens"] == full > 10
        assert sample["kept"] == items * Budget.parse(ratio="0.889").keep(full // items)
    assert cells.answers(task, "vanilla") != cells.answers(task, "divprune")
