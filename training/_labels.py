"""What each visual token shows: the targets of the vision stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unibench.tasks.synthvqa._palette import COLORS, GLYPHS, GROUNDS, PLATES, SHAPES
from unibench.tasks.synthvqa._scene import Scene

IGNORE = -100


@dataclass(frozen=True)
class Field:
    """One thing that a token shows.

    Attributes:
        name: of the field.
        values: after "nothing".
        nothing: weight of "nothing" in the loss; it is most of a picture.
        everywhere: whether every token has a value.
        aside: of those, whether words for it are said only where the middle of a thing or a
            character is. Were each token to say where it is, a decoder that does not yet look at
            one of them would hear their mean.
        word: whether words stand for the values.
        loudness: of its words in a token.
    """

    name: str
    values: tuple[str, ...]
    nothing: float
    everywhere: bool = False
    aside: bool = False
    word: bool = True
    loudness: float = 1.0


_TWELFTHS = tuple(map(str, range(12)))
RADII = (20.0, 31.0, 38.0)  # pixels, between the classes of size
FIELDS = (
    Field("color", tuple(COLORS), 0.15, loudness=1.5),
    Field("shape", tuple(SHAPES), 0.15, loudness=1.5),
    Field("middle", ("middle",), 0.15, word=False),
    Field("size", ("0", "1", "2", "3"), 0.15, word=False, loudness=0.8),
    Field("glyph", tuple(GLYPHS), 0.08, loudness=1.5),
    Field("slot", tuple("123456"), 0.1, word=False, loudness=1.5),
    Field("plate", tuple(PLATES), 0.15, loudness=1.2),
    Field("ground", tuple(GROUNDS), 0.0, everywhere=True, loudness=0.4),
    # where the token, or what it shows the middle of, is, in twelfths of the picture
    Field("across", _TWELFTHS, 0.0, everywhere=True, aside=True, word=False),
    Field("down", _TWELFTHS, 0.0, everywhere=True, aside=True, word=False),
)
SIZES = tuple(len(field.values) + 1 for field in FIELDS)
NUMBERS = tuple(len(field.values) for field in FIELDS)
_NAMES = tuple(field.name for field in FIELDS)
_SOMEWHERE = [i for i, field in enumerate(FIELDS) if not field.everywhere]


def labels(scene: Scene, grid: tuple[int, int]) -> NDArray[np.int64]:
    """Index of the value (0: nothing, -100: unclear) for each field and token: ``[fields, rows *
    columns]``.
    """
    rows, columns = grid
    width, height = scene.size[0] / columns, scene.size[1] / rows
    x, y = np.meshgrid((np.arange(columns) + 0.5) * width, (np.arange(rows) + 0.5) * height)
    out = np.zeros((len(FIELDS), rows, columns), np.int64)
    by = dict(zip(_NAMES, out, strict=True))
    by["ground"][:] = list(GROUNDS).index(scene.ground) + 1
    by["across"][:] = np.minimum(11, 12 * x // scene.size[0]) + 1
    by["down"][:] = np.minimum(11, 12 * y // scene.size[1]) + 1

    def mark(at: tuple[float, float], **shown: int) -> None:
        """What the token around a point shows, and where that point is."""
        cell = min(rows - 1, int(at[1] / height)), min(columns - 1, int(at[0] / width))
        shown["across"], shown["down"] = (
            1 + min(11, int(12 * place / side)) for place, side in zip(at, scene.size, strict=True)
        )
        for name, value in shown.items():
            by[name][cell] = value

    for thing in scene.things:
        touched = (np.abs(x - thing.x) < thing.radius + width / 2) & (
            np.abs(y - thing.y) < thing.radius + height / 2
        )
        for name in ("color", "shape", "size"):
            by[name][touched & (by[name] == 0)] = IGNORE
    for thing in scene.things:
        mark(
            (thing.x, thing.y),
            color=list(COLORS).index(thing.color) + 1,
            shape=SHAPES.index(thing.shape) + 1,
            middle=1,
            size=1 + sum(thing.radius >= radius for radius in RADII),
        )
    for sign in scene.signs:
        left, top, right, bottom = sign.box
        touched = (
            (x > left - width / 2)
            & (x < right + width / 2)
            & (y > top - height / 2)
            & (y < bottom + height / 2)
        )
        by["plate"][touched & (by["plate"] == 0)] = IGNORE
        for place, letter in enumerate(sign.text):
            mark(
                sign.centre(place),
                glyph=GLYPHS.index(letter) + 1,
                slot=place + 1,
                plate=list(PLATES).index(sign.color) + 1,
            )
    return out.reshape(len(FIELDS), rows * columns)


def _things(targets: Tensor) -> Tensor:
    """Tokens with the middle of a thing or a character: ``[B, fields, N]`` to ``[B, N]``."""
    return (targets[:, [_NAMES.index(name) for name in ("middle", "glyph")]] > 0).any(1)


def only_ground(targets: Tensor) -> Tensor:
    """Tokens that no sign and no thing touches: ``[B, fields, N]`` indices of values to ``[B,
    N]``.
    """
    return (targets[:, _SOMEWHERE] == 0).all(1)


def indicators(targets: Tensor) -> tuple[Tensor, Tensor]:
    """What tokens show as ones and zeros, and how much each token counts.

    Args:
        targets: ``[B, fields, N]`` indices of values.

    Returns:
        ``[B, N, values]``, and ``[B, N]``: nothing where it is unclear what a token shows, little
        on plain ground, which is most of a picture.
    """
    known, things = targets.clamp_min(0), _things(targets)
    hot = [
        functional.one_hot(torch.where(things, known[:, i], 0) if field.aside else known[:, i], n)
        for i, (field, n) in enumerate(zip(FIELDS, SIZES, strict=True))
    ]
    shown, clear = (targets[:, _SOMEWHERE] > 0).any(1), (targets != IGNORE).all(1)
    weight = torch.where(shown, 1.0, 0.15) * clear
    return torch.cat([one[..., 1:] for one in hot], -1).float(), weight


@dataclass(frozen=True)
class Target:
    """What a tower is to find in ``S`` pictures or pairs of frames.

    Attributes:
        labels: ``[S, fields, N]`` indices; unclear where the frames of a pair differ.
        values: ``[S, N, values]``, the mean of a pair.
        weight: ``[S, N]``, how much each token counts.
        things: ``[S, N]``, true for the token in the middle of a thing and for each character.
            That is a fifth of a picture; a half is touched by something, too much to choose from.
    """

    labels: Tensor
    values: Tensor
    weight: Tensor
    things: Tensor

    def to(self, device: torch.device) -> Target:
        """The same on a device."""
        return Target(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def target_of(scenes: Sequence[Scene], grid: tuple[int, int], pairs: bool) -> Target:
    """The target of pictures, or of frames that the tower joins two by two."""
    found = torch.from_numpy(np.stack([labels(scene, grid) for scene in scenes]))
    values, weight = indicators(found)
    things = _things(found)
    if not pairs:
        return Target(found, values, weight, things)
    one, other = found[::2], found[1::2]
    return Target(
        torch.where(one == other, one, IGNORE),
        (values[::2] + values[1::2]) / 2,
        torch.maximum(weight[::2], weight[1::2]),
        things[::2] | things[1::2],
    )
