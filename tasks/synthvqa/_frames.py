"""Pictures whose things keep their look from frame to frame, and the exact box of each thing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from unibench.tasks.synthvqa._draw import (
    _draw_sign,
    _draw_thing,
    _font,
    _ground,
    _shade,
    outline,
)
from unibench.tasks.synthvqa._palette import COLORS, PLATES, SHAPES, Rgb
from unibench.tasks.synthvqa._scene import Box, Scene, Sign, Thing


@dataclass(frozen=True)
class Look:
    """How a thing is drawn: its shade and its tilt in radians."""

    shade: Rgb
    tilt: float


def draw_frames(frames: Sequence[Scene]) -> tuple[Image.Image, ...]:
    """The RGB pictures of scenes that share seed, size and ground.

    A thing has one look in all of them, whatever else is shown: ``_draw.draw`` takes the looks in
    turn from one generator, so that a thing that appears would change those behind it.
    """
    first = frames[0]
    ground = Image.fromarray(_ground(first, np.random.default_rng([92, first.seed])))
    pictures = []
    for scene in frames:
        picture = ground.copy()
        pen = ImageDraw.Draw(picture)
        for thing in scene.things:
            look = look_of(scene, thing)
            _draw_thing(pen, thing, look.shade, look.tilt)
        for sign in scene.signs:
            rng = _rng_of(scene, sign)
            _draw_sign(
                pen, sign, _shade(PLATES[sign.color], rng, 6), _font(int(rng.integers(28, 33)))
            )
        pictures.append(picture)
    return tuple(pictures)


def look_of(scene: Scene, thing: Thing) -> Look:
    """The look of a thing, which depends on its name and on the seed alone."""
    name = [list(COLORS).index(thing.color), SHAPES.index(thing.shape)]
    rng = np.random.default_rng([97, scene.seed, *name])
    return Look(_shade(COLORS[thing.color], rng, 9), float(rng.uniform(-0.25, 0.25)))


def box_of(scene: Scene, thing: Thing) -> Box:
    """Left, top, right and bottom of what :func:`draw_frames` draws, in pixels."""
    if thing.shape == "circle":
        corners = [(-1.0, -1.0), (1.0, 1.0)]
    else:
        tilt = look_of(scene, thing).tilt
        sine, cosine = math.sin(tilt), math.cos(tilt)
        corners = [(u * cosine - v * sine, u * sine + v * cosine) for u, v in outline(thing.shape)]
    across, down = zip(*corners, strict=True)
    return (
        thing.x + thing.radius * min(across),
        thing.y + thing.radius * min(down),
        thing.x + thing.radius * max(across),
        thing.y + thing.radius * max(down),
    )


def _rng_of(scene: Scene, sign: Sign) -> np.random.Generator:
    return np.random.default_rng([98, scene.seed, list(PLATES).index(sign.color)])
