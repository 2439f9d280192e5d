"""VLMEvalKit's data sets of videos: the content of the published repositories, with our clips.

Tables: ms-vlmeval 0.0.20, ``generate_tsv`` of ``vlmeval/dataset/videomme.py``, ``mvbench.py``,
``mlvu.py`` and ``longvideobench.py``; a folder serves every number of frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from tests.harness.standins._questions import LETTERS, Asked, choices, counts
from tests.harness.standins._videos import save_clip

Row = dict[str, object]
FRAMES = 12  # of a clip, at two frames a second: 6 s
MLVU = {"plotQA": "1_plotQA", "needle": "2_needle", "count": "4_count"}
OPEN = {"sub_scene": "8_sub_scene", "summary": "9_summary"}


def write(folder: str, below: Path, size: int) -> Path:
    """Write ``<below>/<folder>``, with about ``size`` questions, and return it."""
    root = below / folder
    root.mkdir(parents=True, exist_ok=True)
    rows = VIDEOS[folder](root, size)
    pd.DataFrame(rows).assign(index=range(len(rows))).to_csv(
        root / f"{folder}.tsv", sep="\t", index=False
    )
    return root


def _clip(root: Path, place: str, asked: Asked) -> None:
    save_clip(root / place, [asked.picture], FRAMES)


def _videomme(root: Path, size: int) -> list[Row]:
    """Subtitles of every other clip, as lines of an SRT file."""
    rows: list[Row] = []
    for i, asked in enumerate(choices(size)):
        _clip(root, f"video/clip{i}.mp4", asked)
        if i % 2 == 0:
            file = root / "subtitle" / f"clip{i}.srt"
            file.parent.mkdir(exist_ok=True)
            file.write_text("1\n00:00:00,000 --> 00:00:05,000\nLook at this.\n")
        rows.append(
            {
                "video": f"clip{i}",
                "video_path": f"./video/clip{i}.mp4",
                "duration": ("short", "medium", "long")[i % 3],
                "domain": "Knowledge",
                "candidates": [f"{letter}. {text}" for letter, text in asked.lettered.items()],
                "sub_category": "Astronomy",
                "task_type": "Counting Problem",
                "subtitle_path": f"./subtitle/clip{i}.srt",
                "question": asked.text,
                "answer": asked.answer,
            }
        )
    return rows


def _mvbench(root: Path, size: int) -> list[Row]:
    rows: list[Row] = []
    for i, asked in enumerate(choices(size)):
        _clip(root, f"clevrer/{i}.mp4", asked)
        rows.append(
            {
                "task_type": ("Moving Count", "Object Existence")[i % 2],
                "prefix": "clevrer/",
                "video": f"{i}.mp4",
                "question": asked.text,
                "answer": asked.right,
                "candidates": list(asked.options),
            }
        )
    return rows


def _mlvu_mcq(root: Path, size: int) -> list[Row]:
    rows: list[Row] = []
    for i, asked in enumerate(choices(size)):
        own = {"answer": asked.right, "candidates": list(asked.options)}
        rows.append(_of_mlvu(root, MLVU, i, asked) | own)
    return rows


def _mlvu_open(root: Path, size: int) -> list[Row]:
    rows: list[Row] = []
    for i, asked in enumerate(counts(size)):
        row = _of_mlvu(root, OPEN, i, asked)
        points = f"['{asked.answer}']" if row["task_type"] == "sub_scene" else ""
        rows.append(row | {"answer": asked.answer, "scoring_points": points})
    return rows


def _of_mlvu(root: Path, kinds: Mapping[str, str], number: int, asked: Asked) -> Row:
    """What both of its tables say of a clip, which is written; kinds of task take turns."""
    kind, place = list(kinds.items())[number % len(kinds)]
    _clip(root, f"MLVU/video/{place}/{number}.mp4", asked)
    return {
        "task_type": kind,
        "prefix": f"./MLVU/video/{place}",
        "duration": FRAMES / 2,
        "video": f"{number}.mp4",
        "question": asked.text,
    }


def _longvideobench(root: Path, size: int) -> list[Row]:
    rows: list[Row] = []
    (root / "subtitles").mkdir(exist_ok=True)
    for i, asked in enumerate(choices(size)):
        _clip(root, f"videos/{i}.mp4", asked)
        lines = [{"start": "00:00:00.000", "end": "00:00:05.000", "line": "Look at this."}]
        (root / "subtitles" / f"{i}_en.json").write_text(json.dumps(lines))
        rows.append(
            {
                "video_id": str(i),
                "question": asked.text,
                "question_category": ("S2E", "TAA")[i % 2],
                "candidates": list(asked.options),
                "correct_choice": LETTERS.index(asked.answer),
                "duration_group": (15, 60, 600, 3600)[i % 4],
                "duration": FRAMES / 2,
                "subtitle_path": f"{i}_en.json",
                "starting_timestamp_for_subtitles": 0.0,
                "video_path": f"./videos/{i}.mp4",
                "video": str(i),
            }
        )
    return rows


VIDEOS: dict[str, Callable[[Path, int], list[Row]]] = {
    "Video-MME": _videomme,
    "MVBench_MP4": _mvbench,
    "MLVU_MCQ": _mlvu_mcq,
    "MLVU_OpenEnded": _mlvu_open,
    "LongVideoBench": _longvideobench,
}
