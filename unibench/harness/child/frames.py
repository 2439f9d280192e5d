"""Which frames of which video a harness reads, whoever reads them: read back from decord."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from decord import VideoReader
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import load_video

Frames = tuple[int, ...]


@dataclass(frozen=True)
class Clock:
    """When the frames that were read of a video are shown in it.

    Attributes:
        numbers: of the frames.
        total: frames of the file.
        rate: of them a second.
    """

    numbers: Frames
    total: int
    rate: float


@dataclass
class Reading:
    """The frames read since it was last asked, by file in the order of reading.

    VLMEvalKit cuts a video into pictures once and shows them under every question about it, so what
    a file gave is remembered by the pictures too.
    """

    _read: dict[str, list[int]] = field(default_factory=dict)
    _cut: dict[tuple[str, ...], tuple[Frames, ...]] = field(default_factory=dict)
    _sizes: dict[str, tuple[int, float]] = field(default_factory=dict)
    _clocks: dict[tuple[str, ...], Clock] = field(default_factory=dict)

    def taken(self) -> tuple[Frames, ...]:
        """Numbers of the frames of each video; forgets them."""
        found = tuple(tuple(numbers) for numbers in self._read.values() if numbers)
        self._read.clear()
        return found

    def cut_into(self, pictures: Sequence[str]) -> tuple[Frames, ...]:
        """The same, of a video that was, now or earlier, cut into these files."""
        name, files = tuple(pictures), [file for file, numbers in self._read.items() if numbers]
        found = self.taken()
        if found:
            self._cut[name] = found
        if len(found) == 1 and len(found[0]) == len(name):  # each picture is a frame of one file
            self._clocks[name] = Clock(found[0], *self._sizes[files[0]])
        return self._cut.get(name, ())

    def clock_of(self, pictures: Sequence[str]) -> Clock | None:
        """When these files are shown in the video that they were cut from; None if nobody knows."""
        return self._clocks.get(tuple(pictures))

    def open(self, file: str, total: int, rate: float) -> None:
        """A file was opened; one that is opened again is read again."""
        self._read.pop(file, None)
        self._sizes[file] = total, rate

    def note(self, file: str, numbers: Sequence[int]) -> None:
        """Frames of a file were read."""
        self._read.setdefault(file, []).extend(numbers)


@contextmanager
def watching() -> Iterator[Reading]:
    """Note what decord reads inside the block. Its class is changed and not its name, which every
    reader has imported in another way.
    """
    reading = Reading()
    begin, single, several = VideoReader.__init__, VideoReader.__getitem__, VideoReader.get_batch

    def opened(self: Any, uri: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, uri, *args, **kwargs)
        self._file = str(uri)
        reading.open(self._file, len(self), float(self.get_avg_fps()))

    def one(self: Any, number: Any) -> Any:
        if not isinstance(number, slice):  # a slice arrives in get_batch
            reading.note(self._file, [int(number)])
        return single(self, number)

    def batch(self: Any, numbers: Any) -> Any:
        reading.note(self._file, [int(number) for number in numbers])
        return several(self, numbers)

    with patch.multiple(VideoReader, __init__=opened, __getitem__=one, get_batch=batch):
        yield reading


@contextmanager
def by_decord() -> Iterator[None]:
    """Processors of transformers that are given a file read it with decord inside the block, on
    every machine: their own choice falls on torchcodec, or fails where it is not installed.
    """

    def fetched(self: Any, videos: Any, sample_indices_fn: Any = None) -> Any:
        if isinstance(videos, list):
            return list(
                zip(*[fetched(self, one, sample_indices_fn) for one in videos], strict=True)
            )
        return load_video(videos, backend="decord", sample_indices_fn=sample_indices_fn)

    with patch.object(BaseVideoProcessor, "fetch_videos", fetched):
        yield


def name_of(video: str) -> bytes:
    """What tells a video from another without reading it: its file and the folder it lies in."""
    return "/".join(Path(video).parts[-2:]).encode()
