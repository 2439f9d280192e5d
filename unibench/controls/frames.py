"""A video with fewer frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from PIL.Image import Image

from unibench.controls import grids
from unibench.errors import UsageError
from unibench.models import Clip, LoadedModel

Video = tuple[Image, ...]


def spread(count: int, total: int) -> list[int]:
    """``count`` of ``total`` places at even distances, the first and the last among them; of one
    the middle.

    >>> spread(3, 8), spread(1, 8), spread(4, 4)
    ([0, 4, 7], [3], [0, 1, 2, 3])
    """
    if count == 1:
        return [(total - 1) // 2]
    # halves upwards: Python's round() takes them to even numbers
    return [
        int(Fraction(place * (total - 1), count - 1) + Fraction(1, 2)) for place in range(count)
    ]


def fewer_frames(
    total: int, most: int, group: int, tokens: Callable[[Sequence[int]], int]
) -> list[int]:
    """Which frames of a video to show: as many, evenly spaced, as have no more than so many tokens.

    Args:
        total: frames of the video.
        most: tokens.
        group: frames that the model reads together; groups stay whole.
        tokens: how many some frames have.

    Raises:
        UsageError: even one group has more.
    """
    groups = [range(start, min(start + group, total)) for start in range(0, total, group)]
    # no fewer tokens a group than on average, so that the search begins at most one too high
    count = min(len(groups), most * len(groups) // tokens(range(total)) + 1)
    found = 0
    for kept in range(count, 0, -1):
        places = [frame for place in spread(kept, len(groups)) for frame in groups[place]]
        found = tokens(places)
        if found <= most:
            return places
    raise UsageError(
        f"control=fewer_frames: the fewest frames of this video have {found} tokens, and the budget"
        f" is {most}"
    )


def pinned(loaded: LoadedModel, frames: Video) -> tuple[LoadedModel, Video]:
    """A model and the frames of a video, in the size in which it would read all of them: processors
    that share pixels among frames would give them back to those that are left.
    """
    grid = loaded.read([[frames, "?"]]).get("video_grid_thw")
    if grid is None:
        return loaded, frames  # of one size, however many there are
    patch = int(loaded.processor.video_processor.patch_size)
    _, rows, columns = grid[0].tolist()
    size = columns * patch, rows * patch
    resized = [frame if frame.size == size else grids.resized(frame, *size) for frame in frames]
    options = {**loaded.video_options, "do_resize": False}
    return replace(loaded, video_options=options), of_frames(frames, resized, range(len(frames)))


def of_frames(video: Video, frames: Sequence[Image], places: Sequence[int]) -> Video:
    """Some frames as a video, with the times of those that stood at these places of another."""
    if not isinstance(video, Clip):
        return tuple(frames)
    indices = video.metadata.get("frames_indices", video.numbers)
    metadata = {**video.metadata, "frames_indices": [indices[place] for place in places]}
    return Clip(frames, [video.numbers[place] for place in places], metadata)
