"""A video with fewer frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from PIL.Image import Image

from unibench.errors import UsageError


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
    frames: Sequence[Image], most: int, group: int, tokens: Callable[[tuple[Image, ...]], int]
) -> tuple[Image, ...]:
    """As many frames of a video, evenly spaced, as have no more than so many tokens.

    Args:
        frames: of the video.
        most: tokens.
        group: frames that the model reads together; groups stay whole.
        tokens: how many some frames have.

    Raises:
        UsageError: even one group has more, or frames become larger as they become fewer.
    """
    groups = [tuple(frames[start : start + group]) for start in range(0, len(frames), group)]
    whole = tokens(tuple(frames))
    count = min(len(groups), most * len(groups) // whole + 1)
    for kept in range(count, 0, -1):
        chosen = tuple(frame for place in spread(kept, len(groups)) for frame in groups[place])
        found = tokens(chosen)
        # processors that share pixels among frames give them back to those that are left
        if found * len(groups) > whole * kept + len(groups) and kept < len(groups):
            raise UsageError(
                "control=fewer_frames: this model's processor enlarges the frames as they become"
                " fewer, so that no tokens are saved; bound them with video.max_pixels"
            )
        if found <= most:
            return chosen
    raise UsageError(
        f"control=fewer_frames: the fewest frames of this video have {found} tokens, and the budget"
        f" is {most}"
    )
