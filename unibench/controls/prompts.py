"""A prompt as a control changes it: in front of the processor, for any model."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import groupby
from typing import Any

from PIL.Image import Image, new

from unibench.budget import Budget, Scope
from unibench.config import Control
from unibench.controls import grids
from unibench.controls.frames import fewer_frames, of_frames, pinned
from unibench.controls.native import native_budget, with_limits
from unibench.errors import UsageError
from unibench.models import LoadedModel, Piece
from unibench.ops import coarser_grid, shares
from unibench.pruning.family import VisionCall
from unibench.pruning.layout import Item

# how VTC-Bench opens Qwen2-VL's processor, whatever the model's own limits
OFFICIAL_LIMITS = {"shortest_edge": 3136, "longest_edge": 2408448}


@dataclass(frozen=True)
class Controlled:
    """What the model is asked in place of a prompt.

    Attributes:
        pieces: of the user turn.
        loaded: the model, with the settings of its image processor that the control wants.
        visual_tokens: of the prompt before the control.
        places: of each video that has fewer frames now, which of them are left.
    """

    pieces: list[Piece]
    loaded: LoadedModel
    visual_tokens: int
    places: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Controller:
    """Applies the control of a cell.

    Attributes:
        kind: which one.
        budget, scope: how many tokens may be read.
        others: for ``blind_other``: the picture that each picture is replaced by, by digest.
        median: for ``native_budget``: width and height of the task's picture of median size.
    """

    kind: Control
    budget: Budget
    scope: Scope = "sequence"
    others: Mapping[str, Image] | None = None
    median: tuple[int, int] | None = None

    def __call__(self, loaded: LoadedModel, pieces: Sequence[Piece]) -> Controlled:
        """The prompt in place of a prompt.

        Args:
            loaded: the model.
            pieces: of the user turn; pictures and text.

        Raises:
            UsageError: the model offers no size of picture for so few tokens, or a piece is a
                video.
        """
        if all(isinstance(piece, str) for piece in pieces):
            return Controlled(list(pieces), loaded, 0)  # some questions of a task have no picture
        counts = _Counts(loaded, list(pieces))
        if self.kind == "blind":
            left: list[Piece] = [piece for piece in pieces if isinstance(piece, str)]
            return Controlled(left, loaded, counts.whole)
        if self.kind == "blind_grey":
            return Controlled(_each(pieces, partial(_grey, loaded)), loaded, counts.whole)
        if self.kind == "fewer_frames":
            return self._thinned(counts)
        if any(isinstance(piece, tuple) for piece in pieces):
            raise UsageError(
                f"control={self.kind} changes pictures, and this prompt has a video: take"
                " control=fewer_frames"
            )
        if self.kind == "native_budget":
            own = native_budget(loaded, self._native(counts), counts.factor)
            return Controlled(list(pieces), own, counts.whole)
        if self.kind == "blind_other":
            return Controlled(_each(pieces, self._other), loaded, counts.whole)
        if self.kind == "resize_divisor":
            if counts.grids is None:
                raise UsageError(
                    "control=resize_divisor is for models that read a picture in its own size; take"
                    " control=resize_blur, or method=pooling"
                )
            small = partial(grids.divided, divisor=self._divisor())
            official = with_limits(loaded, **OFFICIAL_LIMITS)
            return Controlled(_each(pieces, small), official, _Counts(official, pieces).whole)
        return counts.fitted(self.kind, self._parts(counts))

    def _parts(self, counts: _Counts) -> list[int]:
        """The most tokens of each picture."""
        if self.scope == "item":
            return [self.budget.keep(count) for count in counts.each]
        if self.scope == "tile":
            # a smaller picture has other tiles: it may have as many tokens as all of them keep
            return [sum(map(self.budget.keep, tiles)) for tiles in counts.tiles]
        most = self.budget.keep(counts.whole)
        return [max(1, part) for part in shares(most, counts.each)]

    def _native(self, counts: _Counts) -> int:
        """The most tokens of any picture: the budget's of the picture of the task's median size."""
        if self.budget.tokens is not None:
            return self.budget.tokens
        if self.median is None:
            raise UsageError(
                "control=native_budget has one setting for all pictures of a task, and a harness"
                " hands them over one by one: give the tokens of a picture, keep=64 for example"
            )
        (usual,) = _Counts(counts.loaded, [new("RGB", self.median), "?"]).each
        return self.budget.keep(usual)

    def _thinned(self, counts: _Counts) -> Controlled:
        """The prompt with fewer frames of its videos."""
        loaded, pieces = counts.loaded, counts.pieces
        videos = [piece for piece in pieces if isinstance(piece, tuple)]
        if any(isinstance(piece, Image) for piece in pieces):
            raise UsageError("control=fewer_frames takes frames of videos, and this is a picture")
        sizes = [_visual(loaded, loaded.read([[video, "?"]])) for video in videos]
        parts = [self.budget.keep(size) for size in sizes]
        if self.scope == "sequence":
            parts = [max(1, part) for part in shares(self.budget.keep(sum(sizes)), sizes)]
        reader, found = loaded, list[tuple[int, ...]]()
        thin = list[tuple[Image, ...]]()
        for video, most in zip(videos, parts, strict=True):
            reader, frames = pinned(loaded, video)
            places = _places(reader, frames, most)
            found.append(places)
            thin.append(of_frames(video, [frames[place] for place in places], places))
        left = iter(thin)
        turn: list[Piece] = [piece if isinstance(piece, str) else next(left) for piece in pieces]
        return Controlled(turn, reader, counts.whole, tuple(found))

    def _divisor(self) -> int:
        kept = float(self.budget.retention or 0)
        divisor = round(kept**-0.5) if kept else 0
        if divisor < 2 or abs(divisor**-2 - kept) > 0.001:
            raise UsageError(
                "control=resize_divisor divides both sides by a whole number: give ratio=0.75 (by"
                " 2), 0.8889 (3), 0.9375 (4), 0.96 (5) or 0.99 (10)"
            )
        return divisor

    def _other(self, picture: Image) -> Image:
        other = (self.others or {}).get(digest(picture))
        if other is None:
            raise UsageError("control=blind_other needs a task with several pictures")
        return grids.resized(other, *picture.size)


class _Counts:
    """The tokens of a prompt, and of prompts like it with smaller pictures.

    Args:
        loaded: the model.
        pieces: of the user turn.
    """

    def __init__(self, loaded: LoadedModel, pieces: Sequence[Piece]) -> None:
        self.loaded, self.pieces = loaded, pieces
        inputs = loaded.read([pieces])
        self.whole = _visual(loaded, inputs)
        processor = loaded.processor.image_processor
        merge = int(getattr(processor, "merge_size", 1))
        grid = inputs.get("image_grid_thw")
        # rows and columns of tokens, where every picture has a grid of its own size
        self.grids: list[tuple[int, int]] | None = (
            None
            if grid is None
            else [(int(rows) // merge, int(columns) // merge) for _, rows, columns in grid]
        )
        self.factor = (
            int(getattr(processor, "patch_size", 0) or 0) * merge if grid is not None else 0
        )

    @property
    def each(self) -> list[int]:
        """Tokens of each picture."""
        if self.grids is not None:
            return [rows * columns for rows, columns in self.grids]
        pictures = [piece for piece in self.pieces if not isinstance(piece, str)]
        return [_visual(self.loaded, self.loaded.read([[picture, "?"]])) for picture in pictures]

    @property
    def tiles(self) -> list[list[int]]:
        """Tokens of each tile of each picture."""
        if self.grids is not None:
            return [[count] for count in self.each]
        found = []
        for picture in (piece for piece in self.pieces if not isinstance(piece, str)):
            inputs = self.loaded.read([[picture, "?"]])
            length = _visual(self.loaded, inputs)
            kinds = self.loaded.family.visual_kind(inputs["input_ids"])[0].tolist()
            runs = [len(list(run)) for kind, run in groupby(kinds) if kind]
            call = VisionCall("image", dict(inputs), tokens=length)
            items = [
                Item(0, sum(map(len, parts)), parts)
                for parts in self.loaded.family.items(call, runs)
            ]
            found.append([len(tile) for item in items for tile in item.tiles()])
        return found

    def fitted(self, kind: Control, most: Sequence[int]) -> Controlled:
        """The prompt whose pictures have at most so many tokens each."""
        if self.grids is None:
            return self._scaled(kind, sum(most))
        shapes = [coarser_grid(*grid, part) for grid, part in zip(self.grids, most, strict=True)]
        left = iter(zip(self.grids, shapes, strict=True))
        make = _MAKERS[kind]

        def fit(picture: Image) -> Image:
            (rows, columns), (r, c) = next(left)
            return make(picture, (c / columns, r / rows), (c * self.factor, r * self.factor))

        settings = {} if kind == "resize_blur" else {"shortest_edge": self.factor**2}
        loaded = with_limits(self.loaded, **settings) if settings else self.loaded
        return Controlled(_each(self.pieces, fit), loaded, self.whole)

    def _scaled(self, kind: Control, most: int) -> Controlled:
        """The same for a model that cuts pictures into tiles, or shows all in one size."""
        if kind == "resize_blur":
            part = math.sqrt(most / self.whole)
            blur = partial(_blurred_to, share=part)
            return Controlled(_each(self.pieces, blur), self.loaded, self.whole)
        scale = partial(_MAKERS[kind], size=None)
        tried: dict[float, list[Piece]] = {}
        counts: list[int] = []

        def tokens(step: float) -> int:
            tried[step] = _each(self.pieces, partial(scale, shares=(step, step)))
            counts.append(_visual(self.loaded, self.loaded.read([tried[step]])))
            return counts[-1]

        step = grids.largest(most, tokens)
        if step is not None:
            return Controlled(tried[step], self.loaded, self.whole)
        for loaded in _fewer_tiles(self.loaded) if kind == "resize" else ():
            counts.append(_visual(loaded, loaded.read([self.pieces])))
            if counts[-1] <= most:
                return Controlled(list(self.pieces), loaded, self.whole)
        raise UsageError(
            f"control={kind}: this model reads {self.whole} tokens of this prompt, and of a smaller"
            f" picture never fewer than {min(counts)}, where the budget is {most}; take"
            " control=resize_blur, or method=pooling"
        )


def others_of(pictures: Sequence[Image], seed: int) -> dict[str, Image]:
    """Another picture for each of some pictures: the next one in an order that the seed shuffles.

    Args:
        pictures: of a task; of equal ones the first counts.

    Raises:
        UsageError: there are not two different ones.
    """
    distinct = {digest(picture): picture for picture in pictures}
    if len(distinct) < 2:
        raise UsageError("control=blind_other needs a task with several pictures")
    order = sorted(distinct)
    random.Random(seed).shuffle(order)
    return {name: distinct[order[place - 1]] for place, name in enumerate(order)}


def digest(picture: Image) -> str:
    """Hash of what a picture shows, and of its size."""
    shown = picture.convert("RGB")
    return blake2b(f"{shown.size}".encode() + shown.tobytes(), digest_size=16).hexdigest()


def _places(loaded: LoadedModel, frames: tuple[Image, ...], most: int) -> tuple[int, ...]:
    """Which frames of a video to show for so many tokens."""

    def tokens(places: Sequence[int]) -> int:
        chosen = tuple(frames[place] for place in places)
        return _visual(loaded, loaded.read([[chosen, "?"]]))

    group = int(getattr(loaded.processor.video_processor, "temporal_patch_size", 1))
    return tuple(fewer_frames(len(frames), most, group, tokens))


def _each(pieces: Sequence[Piece], change: Callable[[Image], Image]) -> list[Piece]:
    """A turn with its pictures changed, and the frames of its videos."""
    changed: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, tuple):
            changed.append(of_frames(piece, list(map(change, piece)), range(len(piece))))
        else:
            changed.append(piece if isinstance(piece, str) else change(piece))
    return changed


def _grey(loaded: LoadedModel, picture: Image) -> Image:
    """A picture of one colour, which the processor turns into about zero."""
    mean = getattr(loaded.processor.image_processor, "image_mean", None) or (0.5, 0.5, 0.5)
    return new("RGB", picture.size, tuple(round(255 * value) for value in mean))


def _shrunk(picture: Image, shares: tuple[float, float], size: tuple[int, int] | None) -> Image:
    across, down = shares
    width, height = size or (round(picture.width * across), round(picture.height * down))
    return grids.resized(picture, max(1, width), max(1, height))


def _cropped(picture: Image, shares: tuple[float, float], size: tuple[int, int] | None) -> Image:
    middle = grids.centre_crop(picture, shares)
    return grids.resized(middle, *size) if size else middle


def _blurred(picture: Image, shares: tuple[float, float], size: tuple[int, int] | None) -> Image:
    assert size is not None
    return grids.blurred(picture, *size)


def _blurred_to(picture: Image, share: float) -> Image:
    width, height = (max(1, round(side * share)) for side in picture.size)
    return grids.blurred(picture, width, height)


_MAKERS: Mapping[str, Callable[..., Image]] = {
    "resize": _shrunk,
    "resize_blur": _blurred,
    "centre_crop": _cropped,
}


def _fewer_tiles(loaded: LoadedModel) -> list[LoadedModel]:
    """A model with ever fewer tiles a picture, where its processor has such a limit."""
    most = getattr(loaded.processor.image_processor, "max_patches", None)
    options = loaded.image_options
    return [
        replace(loaded, image_options={**options, "max_patches": tiles})
        for tiles in range(int(most or 1) - 1, 0, -1)
    ]


def _visual(loaded: LoadedModel, inputs: Mapping[str, Any]) -> int:
    """Visual tokens of a batch of prompts."""
    return int((loaded.family.visual_kind(inputs["input_ids"]) != 0).sum())
