"""Tasks whose outcome is known, for ``task=tests/controls/_known.py:Enlarged``, and a method that
knows where to look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from PIL import Image

from unibench import Method, Selection, StageContext
from unibench.tasks import Sample
from unibench.tasks.synthvqa import SynthVQA


class _Changed(SynthVQA):
    """SynthVQA with every picture on a canvas of twice its sides."""

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        for sample in super().samples(limit):
            yield replace(sample, images=tuple(map(self.changed, sample.images)))

    @staticmethod
    def changed(picture: Image.Image) -> Image.Image:
        raise NotImplementedError


class Enlarged(_Changed):
    """The picture itself, enlarged: made smaller by half it is what the model was trained on."""

    name: ClassVar[str] = "enlarged"

    @staticmethod
    def changed(picture: Image.Image) -> Image.Image:
        return picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST)


class Cornered(_Changed):
    """The picture in a corner of an empty canvas: made smaller by half nobody can read it."""

    name: ClassVar[str] = "cornered"

    @staticmethod
    def changed(picture: Image.Image) -> Image.Image:
        canvas = Image.new("RGB", (2 * picture.width, 2 * picture.height), (128, 128, 128))
        canvas.paste(picture, (0, 0))
        return canvas


@dataclass(frozen=True)
class Corner(Method):
    """Keeps the quarter at the top left; of another budget the first tokens of it."""

    def select(self, ctx: StageContext) -> Selection:
        (grid,) = ctx.grids()
        square = grid.rows.view(grid.height, grid.width)
        quarter = square[: grid.height // 2, : grid.width // 2].flatten()
        rest = grid.rows[~torch.isin(grid.rows, quarter)]
        return Selection(torch.cat([quarter, rest])[: ctx.keep])
