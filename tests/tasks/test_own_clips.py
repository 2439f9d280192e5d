"""Video files in one's own data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unibench.clips import read_clip
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.identity import cell_of
from unibench.runner.embedded import load_task
from unibench.tasks.folder import Folder

av = pytest.importorskip("av", reason="reads video files; of the harnesses' requirements")
FRAMES = 12


def drawn(file: Path, frames: int = FRAMES) -> Path:
    """A clip that turns from black to white, evenly."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            grey = np.full((48, 64, 3), 255 * number // (frames - 1), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return file


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    drawn(folder / "clip.mp4")
    line = {"id": "a", "video": "clip.mp4", "question": "Which colour is last?", "answer": "white"}
    (folder / "questions.jsonl").write_text(json.dumps(line))
    return folder


def greys(found: Folder) -> list[int]:
    (sample,) = found.samples()
    return [picture.convert("L").getpixel((30, 20)) for picture in sample.images]


def test_all_frames_of_a_short_clip_are_shown_in_order(place: Path) -> None:
    found = greys(Folder(data=str(place)))
    assert len(found) == FRAMES and found == sorted(found)
    assert found[0] < 20 and found[-1] > 235


def test_frames_of_a_long_clip_are_evenly_spaced_from_the_first_to_the_last(place: Path) -> None:
    found = greys(Folder(data=str(place), clip_frames=3))
    assert np.abs(np.array(found) - [0, 5 * 255 // 11, 255]).max() < 15


def test_a_clip_is_read_in_csv_and_by_another_column(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(f"film,question,answer\n{place / 'clip.mp4'},Which?,white\n")
    assert len(greys(Folder(data=str(file), columns={"image": "film"}))) == FRAMES


def test_a_task_of_pictures_refuses_a_clip_before_a_model_is_loaded(place: Path) -> None:
    words = ["model=tiny_qwen2_5_vl", "method=vanilla", "task=folder", f"task.data={place}"]
    (config,) = compose_cells(words, sweep=False)
    with pytest.raises(UsageError, match=r"line 1: a video file; task\.modality=video shows"):
        load_task(cell_of(config))
    (config,) = compose_cells([*words, "task.modality=video"], sweep=False)
    assert load_task(cell_of(config)).name == "folder"


def test_the_contents_of_a_clip_are_in_the_key(tmp_path: Path) -> None:
    drawn(tmp_path / "clip.mp4")
    line = {"video": "clip.mp4", "question": "Which?", "answer": "white"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(line))
    words = ["model=tiny_qwen2_5_vl", "method=vanilla", "task=folder", f"task.data={tmp_path}"]
    words += ["task.modality=video"]
    before = cell_of(compose_cells(words, sweep=False)[0]).key
    drawn(tmp_path / "clip.mp4", frames=5)
    assert cell_of(compose_cells(words, sweep=False)[0]).key != before


@pytest.mark.parametrize("content", [b"", b"not a video at all", b"\x00\x00\x00\x18ftypmp42"])
def test_what_is_no_video_is_named_with_its_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    line = {"video": "clip.mp4", "question": "Which?", "answer": "white"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(line))
    with pytest.raises(UsageError, match=r"line 1: cannot read the picture clip\.mp4: it is no"):
        Folder(data=str(tmp_path)).left_out()
    assert Folder(data=str(tmp_path), on_bad="skip").left_out() == 1


def test_a_clip_stands_alone_in_its_question(place: Path, tmp_path: Path) -> None:
    line = {"image": ["clip.mp4", "b.png"], "question": "Which?", "answer": "white"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(line))
    with pytest.raises(UsageError, match="one video file alone is wanted"):
        Folder(data=str(tmp_path))


def test_a_missing_clip_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_clip(tmp_path / "gone.mp4")
