"""Videos of a prompt as their methods see them: frames of one size, and newlines beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from torch import Tensor

from unibench import StageContext, UsageError
from unibench.ops import shares
from unibench.pruning import Family, Grid

# What becomes of newline tokens. ``counted``: the budget counts them; the one behind a video stays,
# those behind rows only where the budget exceeds all patches. ``rows``: beyond the budget, those of
# rows that keep a patch. ``all``: beyond the budget, every one.
NEWLINES = ("counted", "rows", "all")


@dataclass(frozen=True)
class Video:
    """Frames of one size that follow each other; a picture is a video of one frame.

    Attributes:
        rows: ``[T, n]`` indices into ``ctx.visual``, each frame in raster order.
        height, width: of a frame, in tokens.
    """

    rows: Tensor
    height: int
    width: int

    def __len__(self) -> int:
        return self.rows.numel()


def videos(ctx: StageContext) -> list[Video]:
    """The videos of a context without its separators; each picture, tile or overview is one of its
    own.

    A frame of another size than the one before starts a video of its own.
    """
    shown = [grid for grid in ctx.grids() if not grid.separators]
    found = []
    for _, group in groupby(enumerate(shown), key=lambda pair: _key(*pair)):
        frames = [grid for _, grid in group]
        rows = torch.stack([grid.rows for grid in frames])
        found.append(Video(rows, frames[0].height, frames[0].width))
    return found


def _key(place: int, grid: Grid) -> tuple[int, ...]:
    """Equal for frames that belong together."""
    # groupby joins neighbours only: a picture between the frames of a video parts them
    return (-1, place) if grid.video is None else (grid.video, grid.height, grid.width)


def features(ctx: StageContext, deepstack: bool) -> Tensor:
    """Rows of the visual tokens, with their DeepStack features beside them if asked for."""
    added = ctx.deepstack() if deepstack else None
    if added is None:
        return ctx.visual_hidden
    return torch.cat([ctx.visual_hidden, added.to(ctx.hidden.device)], -1)


def lacks_deepstack(family: type[Family]) -> str | None:
    """Why a family has no DeepStack features."""
    if family.deepstack is not Family.deepstack:
        return None
    return f"method.deepstack=true: {family.model_types[0]} has no DeepStack features"


def separators(ctx: StageContext) -> tuple[Tensor, Tensor]:
    """Rows of the separators: those that end a picture or video, and those that end a row of it."""
    rows = [grid.rows for grid in ctx.grids() if grid.separators]
    marks = torch.cat([ctx.visual.new_zeros(0), *(part.to(ctx.visual.device) for part in rows)])
    # the separators of a picture are one grid, so its layout has to say which of them is last
    last = [item.stop - 1 for item in ctx.items if item.parts and item.parts[-1].newline == "end"]
    if not len(marks) or not last:
        return marks[:0], marks
    ends = torch.isin(ctx.vision_rows[marks], ctx.vision_rows.new_tensor(last))
    return marks[ends], marks[~ends]


def counted(ctx: StageContext) -> tuple[int, Tensor]:
    """How many patches the budget leaves beside the separators that it counts, and these.

    The token behind a video stays and counts, as long as one patch is kept; newlines behind rows
    stay where the budget exceeds everything else.
    """
    ends, newlines = separators(ctx)
    patches = len(ctx.visual) - len(ends) - len(newlines)
    ending = min(len(ends), max(0, ctx.keep - 1)) if patches else min(len(ends), ctx.keep)
    left = min(patches, ctx.keep - ending)
    return left, torch.cat([ends[:ending], newlines[: ctx.keep - ending - left]])


def beyond(ctx: StageContext, mode: str, kept: Tensor) -> Tensor:
    """Separators that stay beyond the budget, as indices into ``ctx.visual``.

    Args:
        ctx: of the stage.
        mode: ``rows`` (of rows that keep a patch) or ``all``.
        kept: ``[K]`` indices of the patches that stay.
    """
    ends, newlines = separators(ctx)
    marks = torch.cat([ends, newlines])
    if mode == "all" or not len(marks):
        return marks
    is_separator = torch.zeros(len(ctx.visual), dtype=torch.long, device=marks.device)
    is_separator[marks] = 1
    line = is_separator.cumsum(0) - is_separator  # the same for a row and the newline behind it
    has_patch = torch.zeros_like(is_separator, dtype=torch.bool)
    has_patch[line[kept]] = True
    return marks[has_patch[line[marks]]]


def divided(budget: int, parts: Sequence[Video]) -> list[int]:
    """A budget of patches by the size of each video."""
    return shares(budget, [len(part) for part in parts]) if parts else []


def segments(cuts: Sequence[int], frames: int) -> list[range]:
    """Stretches of frames that end after each of ``cuts``.

    >>> segments([1, 2], 5)
    [range(0, 2), range(2, 3), range(3, 5)]
    """
    bounds = [0, *(cut + 1 for cut in sorted(set(cuts))), frames]
    return [range(start, stop) for start, stop in pairwise(bounds)]


def refuse_parts(ctx: StageContext, name: str) -> None:
    """Refuse budgets of single frames, where there is nothing to compare over time.

    Raises:
        UsageError: each frame is a picture of its own budget.
    """
    whole = ctx.share.visual is None or all(grid.video is None for grid in ctx.grids())
    if whole or ctx.family is None:
        return
    if ctx.family.frames_are_pictures:
        raise UsageError(
            f"method={name} needs budget.scope=sequence on {ctx.family.model_types[0]}, whose"
            " frames are pictures of their own"
        )
    if all(len(part.rows) == 1 for part in videos(ctx)):
        ctx.note(f"{name}: a budget for each frame, nothing is compared over time")


def numbered(ctx: StageContext) -> int:
    """How many numbers the visual tokens of the sample may have, see ``ctx.vision_rows``."""
    return max([ctx.total, *(item.stop for item in ctx.items)])


def columns(ctx: StageContext) -> Tensor:
    """``[numbered]`` the place of each original token within its frame, newlines with a place of
    their own; places of other videos, and of every picture, are other numbers.

    Of an unknown layout, every token is a place of its own. Tokens that are not of this context
    have -1.
    """
    found = torch.full((numbered(ctx),), -1, dtype=torch.long)
    places: dict[tuple[object, ...], int] = {}
    fresh = 0
    for number, item in enumerate(ctx.items):
        start = item.start
        for place, part in enumerate(item.parts):
            size = part.height * (part.width + (part.newline == "row"))
            for frame in range(part.frames):
                kind: tuple[object, ...] = (item.video, part.height, part.width)
                if item.video is None:
                    kind = (number, place, frame)
                if kind not in places:
                    # frames of one video and size share their columns
                    places[kind], fresh = fresh, fresh + size
                found[start : start + size] = places[kind] + torch.arange(size)
                start += size
            if part.newline == "end":
                found[start], fresh, start = fresh, fresh + 1, start + 1
        rest = item.stop - start
        found[start : item.stop] = fresh + torch.arange(rest)
        fresh += rest
    return found.to(ctx.vision_rows.device)
