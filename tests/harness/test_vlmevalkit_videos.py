"""VLMEvalKit's data sets of videos: names, files, frames read back, scores."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from tests.harness.running import SHORT
from tests.harness.scoring._vlmevalkit import letter
from tests.harness.standins import _vlmevalkit_videos as standins
from tests.harness.standins._questions import LETTERS
from unibench.benchmark import data_of
from unibench.catalogue import video_folder
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.identity import cells_of

SETS = {  # data set and frames, and the column with the right letter or option
    "Video-MME_4frame": "answer",
    "MVBench_MP4_4frame": "answer",
    "MLVU_MCQ_1fps": "answer",
    "LongVideoBench_4frame": "correct_choice",
}
UNIFORM = {"frames": [0, 4, 7, 11], "cut": [2, 4, 7, 9]}
"""Of 12 frames: by a class that reads the file (linspace), and as VLMEvalKit cuts four pictures
(every fifth of the length).
"""


def test_one_folder_serves_every_number_of_frames_and_each_has_its_own_key(tmp_path: Path) -> None:
    standins.write("Video-MME", tmp_path, 1)
    words = [f"task.data={tmp_path}", "harness=vlmevalkit"]
    names = ["Video-MME_8frame", "Video-MME_64frame", "Video-MME_1fps", "Video-MME_8frame_subs"]
    cells = [compose_cells([f"task=vlmevalkit:{name}", *words], sweep=False)[0] for name in names]
    assert {data_of(cell.task, "vlmevalkit")[0] for cell in cells} == {tmp_path / "Video-MME"}
    assert len({cell.key for cell in cells_of(cells)}) == len(names)


def test_a_name_without_frames_or_with_an_unknown_data_set_is_refused() -> None:
    assert video_folder("POPE") is None
    with pytest.raises(UsageError, match="vlmevalkit has no benchmark 'Video-MMM_8frame'"):
        compose_cells(["task=vlmevalkit:Video-MMM_8frame"], sweep=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Video-MME", "say how many: Video-MME_8frame, Video-MME_64frame"),
        ("MMBench_Video_8frame_pack", "asks all questions about a video in one prompt"),
        ("WorldSense_8frame_audio", "plays the sound of its videos"),
        ("MVBench_MP4_8frame_subs", "takes no use_subtitle"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(name: str, said: str) -> None:
    from unibench.harness.child import vlmevalkit_videos

    with pytest.raises(UsageError, match=said):
        vlmevalkit_videos.variant(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("candidates", "__import__('os').system('true')", "candidates is no list of words"),
        ("video", "../../elsewhere", "video leaves the folder"),
        ("video_path", "/etc/passwd", "video_path leaves the folder"),
    ],
)
def test_a_table_that_would_run_code_or_write_elsewhere_is_refused(
    column: str, cell: str, said: str, tmp_path: Path
) -> None:
    from unibench.harness.child import vlmevalkit_videos

    root = standins.write("Video-MME", tmp_path, 1)
    vlmevalkit_videos.check_tables(root)
    table = pd.read_csv(root / "Video-MME.tsv", sep="\t").assign(**{column: cell})
    table.to_csv(root / "Video-MME.tsv", sep="\t", index=False)
    with pytest.raises(UsageError, match=said):
        vlmevalkit_videos.check_tables(root)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_data_set_is_asked_pruned_and_scored(name: str, tmp_path: Path) -> None:
    folder = str(video_folder(name))
    root = standins.write(folder, tmp_path / "data", 6)
    before = sorted(root.rglob("*"))
    rows = run(name, tmp_path)
    assert sorted(root.rglob("*")) == before  # no lock and no picture in the user's folder
    table = pd.read_csv(root / f"{folder}.tsv", sep="\t")
    for method, row in rows.items():
        samples = samples_of(row)
        kept = {(sample["visual_tokens"], sample["kept"]) for sample in samples}
        assert kept == {(whole, whole // (1 if method == "vanilla" else 2)) for whole, _ in kept}
        frames = [0, 2, 4, 7, 9, 11] if name.endswith("1fps") else UNIFORM["frames"]
        assert all(sample["frames"] == [frames] for sample in samples)
        assert row["frames"]["read"] == [len(frames)] * 2 and row["frames"]["shown"] == "video"
        answers = [sample["answer"] for sample in sorted(samples, key=lambda one: int(one["id"]))]
        right = [is_right(*pair, SETS[name]) for pair in zip(answers, rows_of(table), strict=True)]
        assert row["score_100"] == pytest.approx(100 * sum(right) / len(right), abs=0.1)


@pytest.mark.slow
def test_a_family_that_reads_pictures_is_shown_the_frames_that_vlmevalkit_cuts(
    tmp_path: Path,
) -> None:
    standins.write("Video-MME", tmp_path / "data", 2)
    row = run("Video-MME_4frame", tmp_path, "model=tiny_internvl")["divprune"]
    assert row["frames"]["shown"] == "frames"
    for sample in samples_of(row):
        assert sample["frames"] == [UNIFORM["cut"]] and len(sample["layout"]) == 4


@pytest.mark.slow
def test_frames_that_vlmevalkit_cuts_keep_their_times_where_they_are_shown_as_a_video(
    tmp_path: Path,
) -> None:
    from decord import VideoReader

    from unibench.harness.child.frames import watching
    from unibench.harness.child.vlmevalkit_models import Plain
    from unibench.models import Clip

    file = next(standins.write("Video-MME", tmp_path, 1).rglob("*.mp4"))
    with watching() as reading:
        video = VideoReader(str(file))
        for place in UNIFORM["cut"]:
            Image.fromarray(video[place].asnumpy()).save(tmp_path / f"{place}.jpg")
        pictures = [str(tmp_path / f"{place}.jpg") for place in UNIFORM["cut"]]
        assert reading.cut_into(pictures) == (tuple(UNIFORM["cut"]),)
        VideoReader(
            str(file)
        )  # under the next question the pictures are there, and nothing is read
        assert reading.cut_into(pictures) == (tuple(UNIFORM["cut"]),)
    plain = Plain(reader_of_videos(), 8)
    plain.clock_of = reading.clock_of
    shown = [{"type": "image", "value": picture} for picture in pictures]
    clip, text = plain.pieces([*shown, {"type": "text", "value": "What?"}])
    assert isinstance(clip, Clip) and text == "What?"
    rate = float(video.get_avg_fps())
    told = {"total_num_frames": 12, "fps": rate, "frames_indices": UNIFORM["cut"]}
    assert clip.metadata == told and rate != 24


def reader_of_videos() -> Any:
    """What is asked of a cell about its model: whether it reads videos."""
    return SimpleNamespace(loaded=SimpleNamespace(processor=SimpleNamespace(video_token="<video>")))


def run(name: str, folder: Path, *words: str) -> dict[str, dict[str, Any]]:
    """Rows by method."""
    out = folder / "out"
    given = [f"task=vlmevalkit:{name}", f"task.data={folder / 'data'}", f"out={out}", SHORT]
    assert main(["-m", *given, "method=divprune", "ratio=0.5", *words]) == 0
    rows = [json.loads(file.read_text()) for file in out.rglob("metrics.json")]
    return {row["method"]: row for row in rows}


def samples_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    lines = (Path(row["folder"]) / "samples.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def is_right(answer: str, row: dict[str, Any], column: str) -> bool:
    """Whether an answer names the right letter, or has the text of the right option alone."""
    options = [str(option) for option in ast.literal_eval(row["candidates"])]
    right = row[column]
    if isinstance(right, str) and right not in LETTERS:
        right = LETTERS[options.index(right)]
    elif isinstance(right, int):
        right = LETTERS[right]
    return letter(answer, dict(zip(LETTERS, options, strict=True))) == right
