"""Clips for the video tasks of lmms-eval, where they look for them below ``HF_HOME``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.harness.standins._questions import Asked, exists
from unibench.tasks.synthvqa._scene import Scene

RATE = 2  # frames per second
FRAMES = {
    "videomme": 4,
    "vinoground": 2,
}  # for which a picture stands; Vinoground asks 2,000 questions
SIDE = 112  # of Vinoground's clips, for the same reason
CLIPS = 24  # different pairs of clips; Vinoground's 500 pairs use them in turn


def write_videomme(rows: list[dict[str, object]], home: Path) -> None:
    """Take the pictures out of the rows and write ``data/<videoID>.mp4``."""
    for row in rows:
        save_clip(home / "data" / f"{row['videoID']}.mp4", row.pop("frames"), FRAMES["videomme"])  # type: ignore[arg-type]


def write_vinoground(rows: list[dict[str, object]], home: Path) -> None:
    """Write the clips of a pair apart, one after the other, and the two tables of questions.

    The text score asks which of two captions a clip shows, the video score which of two clips a
    caption is about.
    """
    asked = exists(2 * CLIPS)
    pairs = list(zip(asked[::2], asked[1::2], strict=True))
    tables: dict[str, list[dict[str, str]]] = {"text": [], "video": []}
    for number, pair in enumerate(pairs):
        for sign, shown in zip(("pos", "neg"), pair, strict=True):
            save_clip(
                home / "vinoground_videos" / f"{number}_{sign}.mp4",
                [_small(shown)],
                FRAMES["vinoground"],
            )
        save_clip(
            home / "vinoground_videos_concated" / f"{number}.mp4",
            [_small(shown) for shown in pair],
            FRAMES["vinoground"],
        )
    for row in rows:
        number, sign, way = str(row["index"]).split("_")
        tables[way].append(_vinoground_question(int(number), sign, way, pairs[int(number) % CLIPS]))
    for way, folder in (("text", "vinoground_videos"), ("video", "vinoground_videos_concated")):
        (home / folder / f"vinoground_{way}score.json").write_text(json.dumps(tables[way]))


def _vinoground_question(number: int, sign: str, way: str, pair: Sequence[Asked]) -> dict[str, str]:
    captions = [_only(pair[0].scene, pair[1].scene), _only(pair[1].scene, pair[0].scene)]
    clip = number % CLIPS
    if way == "text":
        name = f"vinoground_videos/{clip}_{sign}.mp4"
        question = f"Which of these is in the video?\nA. {captions[0]}\nB. {captions[1]}"
    else:
        name = f"vinoground_videos_concated/{clip}.mp4"
        question = (
            f"Which segment of the video shows this: {captions[sign == 'neg']}?\nA. the first\nB."
            " the second"
        )
    return {
        "idx": f"{number}_{sign}",
        "video_name": name,
        "question": question,
        "GT": "AB"[sign == "neg"],
    }


def _only(scene: Scene, other: Scene) -> str:
    """The largest thing of a scene that another one lacks."""
    there = {thing.name for thing in other.things}
    return max(
        (thing for thing in scene.things if thing.name not in there), key=lambda thing: thing.radius
    ).name


def _small(shown: Asked) -> Image.Image:
    return shown.picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def save_clip(path: Path, pictures: Sequence[Image.Image], frames: int) -> None:
    """An MPEG-4 clip in which each picture stands for some frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(RATE))
        stream.width, stream.height = pictures[0].size
        stream.bit_rate = 4_000_000  # text on signs stays readable
        for picture in pictures:
            for _ in range(frames):
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24"))
                )
        container.mux(stream.encode())
