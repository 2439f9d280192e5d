"""Methods on more frames beside the unpruned model on fewer, in as many tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stats._cells import finished
from unibench import frame
from unibench.cli import main
from unibench.comparison.more_frames import MoreFrames, more_frames
from unibench.compose import compose_cells
from unibench.identity import cells_of, resampled_setting_of
from unibench.report.over_frames import more_frames as tables

COUNT = 100


def right(count: int) -> list[float]:
    return [float(number < count) for number in range(COUNT)]


def video(out: Path, count: int, frames: int, tokens: int, *words: str, kept: int = 0) -> None:
    """A cell of a video with so many frames, unpruned or with so many tokens kept."""
    more = {"visual_tokens": tokens, "kept": kept or tokens}
    given = (*words, f"video.frames={frames}")
    finished(out, right(count), *given, task="synthvideo", more=more, milliseconds=10 * frames)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The unpruned model on 4, 6 and 16 frames of 64 tokens, and methods on 16."""
    for frames, count in ((4, 60), (6, 70), (16, 90)):
        video(tmp_path, count, frames, 64 * frames, "method=vanilla")
    video(tmp_path, 72, 16, 1024, "method=vidcom2", "ratio=0.75", kept=256)
    video(tmp_path, 50, 16, 1024, "method=vidcom2", "ratio=0.5", kept=512)
    video(tmp_path, 66, 16, 1024, "method=random_pre", "ratio=0.75", kept=256)
    return tmp_path


def found(out: Path) -> list[MoreFrames]:
    return more_frames(frame.whole(frame.over_seeds(frame.load(out), intervals=False)))


def test_a_method_stands_beside_the_unpruned_model_of_as_many_tokens(store: Path) -> None:
    """No unpruned row has the 512 tokens of the other budget; a control is no method."""
    (one,) = found(store)
    assert (one.pruned["method"], one.pruned["budget"]) == ("vidcom2", "0.75")
    assert (one.whole["frames"], one.pruned["frames"]) == ("4", "16")
    assert (one.result.first, one.result.second) == (0.60, 0.72)
    assert (one.result.won, one.result.lost) == (12, 0) and one.result.sure


def test_of_several_the_nearest_in_tokens_counts(store: Path) -> None:
    video(store, 61, 5, 270, "method=vanilla")  # within a tenth of 256, and farther than 256
    (one,) = found(store)
    assert one.whole["frames"] == "4"


def test_other_questions_and_the_same_frames_are_not_compared(tmp_path: Path) -> None:
    video(tmp_path, 60, 4, 256, "method=vanilla", "task.limit=100")
    video(tmp_path, 90, 16, 1024, "method=vanilla")
    video(tmp_path, 72, 16, 1024, "method=vidcom2", "ratio=0.75", kept=256)
    assert found(tmp_path) == []
    with pytest.raises(Exception, match="which adds the unpruned model on 4"):
        tables(frame.over_seeds(frame.load(tmp_path), intervals=False))


def test_the_view_says_what_the_budget_buys(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "view=more_frames", f"out={store}"]) == 0
    line = next(text for text in capsys.readouterr().out.splitlines() if "vidcom2" in text)
    for text in ("16 frames", "256.0", "72.0", "4 frames", "60.0", "120.0", "+12.0", "4.00x"):
        assert text in line, text


def test_tables_name_the_frames_of_a_condition(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", f"out={store}"]) == 0
    said = capsys.readouterr().out
    assert "tiny_qwen2_5_vl, frames=16" in said and "condition" not in said


def test_standard_controls_add_the_unpruned_model_on_fewer_frames() -> None:
    words = ["model=tiny_qwen2_5_vl", "task=synthvideo", "method=vidcom2,sttm", "ratio=0.5,0.75"]
    cells = compose_cells([*words, "video.frames=16", "controls=standard"], sweep=True)
    plain = [cell for cell in cells if cell.method["name"] == "vanilla" and cell.control == "none"]
    assert [cell.video.frames for cell in plain] == [8, 4]
    whole = compose_cells([*words, "controls=standard"], sweep=True)
    assert all(cell.method["name"] != "vanilla" or cell.control != "none" for cell in whole)


@pytest.mark.parametrize("words", [["task=synthvideo"], ["task=videomme", "harness=lmms_eval"]])
def test_frames_alone_leave_the_questions_the_same(words: list[str]) -> None:
    def setting(*more: str) -> str:
        given = ["model=tiny_qwen2_5_vl", *words, *more]
        (cell,) = cells_of(compose_cells(given, sweep=False))
        return resampled_setting_of(cell.identity)

    few = setting("method=vanilla", "video.frames=4")
    assert few == setting("method=vidcom2", "ratio=0.5", "video.frames=8", "seed=1")
    assert few != setting("method=vanilla", "video.frames=4", "task.limit=7")
    assert few != setting("method=vanilla", "video.frames=4", "model.dtype=bfloat16")
