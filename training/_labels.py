"""What each visual token shows: the targets of the vision stage."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unibench.tasks.synthvqa._palette import COLORS, GLYPHS, GROUNDS, PLATES, SHAPES
from unibench.tasks.synthvqa._scene import Scene

IGNORE = -100
# Name of a field, its values after "nothing", and the weight of "nothing" in the loss (it is
# most
# of a picture).
FIELDS: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("color", tuple(COLORS), 0.15),
    ("shape", tuple(SHAPES), 0.15),
    ("middle", ("middle",), 0.15),
    ("glyph", tuple(GLYPHS), 0.08),
    ("slot", tuple("123456"), 0.1),
    ("plate", tuple(PLATES), 0.15),
    ("ground", tuple(GROUNDS), 0.0),
)
SIZES = tuple(len(values) + 1 for _, values, _ in FIELDS)
NUMBERS = tuple(len(values) for _, values, _ in FIELDS)


def labels(scene: Scene, grid: tuple[int, int]) -> NDArray[np.int64]:
    """Index of the value (0: nothing, -100: unclear) for each field and token: ``[fields, rows *
    columns]``.
    """
    rows, columns = grid
    width, height = scene.size[0] / columns, scene.size[1] / rows
    x, y = np.meshgrid((np.arange(columns) + 0.5) * width, (np.arange(rows) + 0.5) * height)
    out = np.zeros((len(FIELDS), rows, columns), np.int64)
    color, shape, middle, glyph, slot, plate, ground = out
    ground[:] = list(GROUNDS).index(scene.ground) + 1
    for thing in scene.things:
        touched = (np.abs(x - thing.x) < thing.radius + width / 2) & (
            np.abs(y - thing.y) < thing.radius + height / 2
        )
        for field in (color, shape):
            field[touched & (field == 0)] = IGNORE
    for thing in scene.things:
        cell = min(rows - 1, int(thing.y / height)), min(columns - 1, int(thing.x / width))
        color[cell], shape[cell], middle[cell] = (
            list(COLORS).index(thing.color) + 1,
            SHAPES.index(thing.shape) + 1,
            1,
        )
    for sign in scene.signs:
        left, top, right, bottom = sign.box
        touched = (
            (x > left - width / 2)
            & (x < right + width / 2)
            & (y > top - height / 2)
            & (y < bottom + height / 2)
        )
        plate[touched & (plate == 0)] = IGNORE
        for place, letter in enumerate(sign.text):
            at = sign.centre(place)
            cell = min(rows - 1, int(at[1] / height)), min(columns - 1, int(at[0] / width))
            glyph[cell], slot[cell], plate[cell] = (
                GLYPHS.index(letter) + 1,
                place + 1,
                list(PLATES).index(sign.color) + 1,
            )
    return out.reshape(len(FIELDS), rows * columns)


def only_ground(targets: Tensor) -> Tensor:
    """Tokens that no sign and no thing touches: ``[B, fields, N]`` indices of values to ``[B,
    N]``.
    """
    return (targets[:, :-1] == 0).all(1)


def indicators(targets: Tensor) -> tuple[Tensor, Tensor]:
    """What tokens show as ones and zeros, and how much each token counts.

    Args:
        targets: ``[B, fields, N]`` indices of values.

    Returns:
        ``[B, N, values]``, and ``[B, N]``: nothing where it is unclear what a token shows, little
        on plain ground, which is most of a picture.
    """
    known = targets.clamp_min(0)
    hot = [functional.one_hot(known[:, i], size)[..., 1:] for i, size in enumerate(SIZES)]
    shown, clear = (targets[:, :-1] > 0).any(1), (targets != IGNORE).all(1)
    return torch.cat(hot, -1).float(), torch.where(shown, 1.0, 0.15) * clear
