"""Frames of a video file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from unibench.pictures import PictureError, as_shown
from unibench.videos import evenly

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
FRAMES = 64  # of a file, evenly spaced, where the task names no other number
PIXELS = 1 << 28  # of all frames of a file together; 768 MiB of RGB


def is_clip(name: object) -> bool:
    """Whether a picture's name is that of a video file.

    >>> is_clip("a/clip.MP4"), is_clip("a.png"), is_clip(b"")
    (True, False, False)
    """
    return isinstance(name, str) and name.lower().endswith(SUFFIXES)


def read_clip(file: Path, most: int = FRAMES) -> tuple[Image.Image, ...]:
    """Frames of a video, RGB, upright, evenly spaced from the first to the last.

    Args:
        file: that FFmpeg can read.
        most: frames; all of a shorter video.

    Raises:
        PictureError: there is no such file, it is no video, is broken inside, or its frames are too
            large together.
    """
    try:
        import av  # of the harnesses' requirements, not of the package's
    except ImportError:
        raise PictureError("it is a video, and package av, which reads it, is not here") from None
    if not file.is_file():
        raise PictureError("No such file or directory")
    try:
        with av.open(str(file)) as container:
            total = sum(packet.size > 0 for packet in container.demux(video=0))
        if not total:
            raise PictureError("it has no frame")
        with av.open(str(file)) as container:
            return _taken(container, evenly(0, total - 1, min(most, total)))
    except (av.error.FFmpegError, IndexError) as error:
        text = str(error).partition("\n")[0]
        raise PictureError(f"it is no video, or broken inside: {text}") from None


def _taken(container: Any, wanted: list[int]) -> tuple[Image.Image, ...]:
    """The frames of these numbers, as an open file is read from its start.

    A file may announce a frame that cannot be decoded: then the last one stands for it.
    """
    found: list[Image.Image] = []
    last: Image.Image | None = None
    places = set(wanted)
    for number, frame in enumerate(container.decode(video=0)):
        if frame.width * frame.height * len(wanted) > PIXELS:
            raise PictureError(
                f"{len(wanted)} frames of {frame.width} x {frame.height} are too large together;"
                " task.options.clip_frames= reads fewer"
            )
        if number in places:
            last = as_shown(_upright(frame))
            found.append(last)
    if last is None:
        raise PictureError("none of its frames can be decoded")
    return (*found, *[last] * (len(wanted) - len(found)))


def _upright(frame: Any) -> Image.Image:
    """A frame as players show it: phones store how the camera was held."""
    picture: Image.Image = frame.to_image()
    turn = getattr(frame, "rotation", 0)
    return picture.rotate(turn, expand=True) if turn else picture
