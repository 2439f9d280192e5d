"""How a video becomes frames and pixels: who reads it, which frames, within which bounds of pixels.

Nothing here imports torch: the settings are part of a cell's key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from unibench.config import RunConfig, VideoConfig
from unibench.errors import UsageError

READERS = ("transformers", "qwen-vl-utils", "decord")
"""Packages whose releases differ in the frames or the pixels of one video."""
BOUNDS = ("min_pixels", "max_pixels")
SETTINGS = tuple(vars(VideoConfig()))
OF_AN_ENTRY = ("frames", "fps", *BOUNDS)  # arguments that classes of lmms-eval have
EMBEDDED = ("frames", *BOUNDS)  # of a clip without a clock


def given(config: RunConfig) -> dict[str, Any]:
    """What a configuration itself says of videos."""
    return {key: value for key, value in vars(config.video).items() if value is not None}


def versions(config: RunConfig) -> dict[str, str]:
    """The releases of what reads videos; those of another interpreter are not known here."""
    if config.harness_options.python is not None:
        return dict.fromkeys(READERS, "of harness_options.python")
    return {name: _version(name) for name in READERS}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def mistakes(
    config: RunConfig, harness: str | None, entry: str | None, video: Mapping[str, Any]
) -> Iterator[UsageError]:
    """What is wrong with the settings of videos.

    Args:
        config: of the cell.
        harness: that asks, None for an embedded task.
        entry: the harness's own model object, None without one.
        video: the convention's settings with the configuration's over them.
    """
    named, family = given(config), config.model.family
    first = next(iter(named), "")
    said = f"video.{first}={named.get(first)}: "
    if named and config.task.modality != "video":
        yield UsageError(f"{said}task={config.task.name} shows pictures; leave it away")
        return
    if config.task.modality != "video":
        return  # a table of videos may have a task of pictures, which its convention's frames leave
    if named and harness == "vlmevalkit":
        yield UsageError(
            f"{said}VLMEvalKit has the frames in the name of a data set: take"
            " task=vlmevalkit:Video-MME_8frame or another, or harness=lmms_eval"
        )
        return
    allowed = EMBEDDED if harness is None else OF_AN_ENTRY if entry is not None else SETTINGS
    for key in named.keys() - {*allowed}:
        whom = (
            "an embedded clip has frames and no clock"
            if harness is None
            else (f"lmms-eval's {entry} reads videos itself; add convention=model")
        )
        yield UsageError(f"video.{key}={named[key]}: {whom}; known here: {', '.join(allowed)}")
    yield from _contradictions(video, family, entry)


def _contradictions(
    video: Mapping[str, Any], family: str, entry: str | None
) -> Iterator[UsageError]:
    """Settings that do not go together, or that a family cannot follow."""
    least, most = video.get("min_pixels"), video.get("max_pixels")
    if least is not None and most is not None and least > most:
        yield UsageError(f"video.min_pixels={least} is more than video.max_pixels={most}")
    resizing = [key for key in (*BOUNDS, "total_pixels") if key in video]
    if resizing and not family.startswith("qwen"):
        yield UsageError(
            f"video.{resizing[0]}={video[resizing[0]]}: frames of family {family} have one size;"
            " leave it away"
        )
    reader, fps = video.get("reader"), video.get("fps")
    if resizing and family.startswith("qwen3") and entry is None and reader != "qwen_vl_utils":
        yield UsageError(
            f"video.{resizing[0]}={video[resizing[0]]}: the processor of family {family} bounds a"
            " video as a whole, not its frames; add video.reader=qwen_vl_utils"
        )
    if reader in ("qwen_vl_utils", "processor") and not family.startswith("qwen"):
        yield UsageError(f"video.reader={reader} reads videos for Qwen's models, not for {family}")
    for key, wanted in (("thin", "fps"), ("most", "fps"), ("total_pixels", "reader")):
        if key in video and video.get(wanted) is None:
            yield UsageError(f"video.{key}={video[key]} wants video.{wanted} beside it")
    if "total_pixels" in video and reader not in (None, "qwen_vl_utils"):
        yield UsageError(
            f"video.total_pixels is a rule of video.reader=qwen_vl_utils, not of {reader}"
        )
    if fps is not None and video.get("frames") is not None:
        yield UsageError(
            f"video.fps={fps} and video.frames={video['frames']} both say how many frames: take"
            " video.most beside fps, or video.thin for a second sampling"
        )


def taken(total: int, rate: float, video: Mapping[str, Any]) -> int:
    """Frames that ``reader=unibench`` takes of a video.

    Args:
        total: frames of the file.
        rate: of them a second.
        video: the settings.

    >>> taken(300, 30.0, {"fps": 2}), taken(300, 30.0, {"frames": 32}), taken(9, 3, {"frames": 32})
    (20, 32, 9)
    """
    if (fps := video.get("fps")) is None:
        return min(int(video.get("frames") or 1), total)
    return max(1, min(int(total / rate * fps), int(video.get("most") or total), total))


def evenly(first: int, last: int, count: int) -> list[int]:
    """``count`` numbers from the first to the last, as numpy's ``linspace`` of integers has them.

    >>> evenly(0, 11, 4), evenly(0, 9, 1)
    ([0, 3, 7, 11], [0])
    """
    if count == 1:
        return [first]
    step = (last - first) / (count - 1)
    return [int(first + place * step) for place in range(count - 1)] + [last]
