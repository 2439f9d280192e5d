"""Scenes to pixels."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unibench.tasks.synthvqa._palette import COLORS, GROUNDS, LIGHT_PLATES, PLATES, Rgb
from unibench.tasks.synthvqa._scene import Scene, Sign, Thing

Field = NDArray[np.float32]


def draw(scene: Scene) -> Image.Image:
    """The RGB picture of a scene."""
    rng = np.random.default_rng([92, scene.seed])
    image = Image.fromarray(_ground(scene, rng))
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        _draw_thing(
            pen, thing, _shade(COLORS[thing.color], rng, 9), float(rng.uniform(-0.25, 0.25))
        )
    for sign in scene.signs:
        _draw_sign(pen, sign, _shade(PLATES[sign.color], rng, 6), _font(int(rng.integers(28, 33))))
    return image


def _shade(color: Rgb, rng: np.random.Generator, spread: float) -> Rgb:
    red, green, blue = (
        np.clip(np.array(color) + rng.normal(0, spread, 3), 0, 255).astype(int).tolist()
    )
    return red, green, blue


def _ground(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Texture of the ground: ``[height, width, 3]``."""
    width, height = scene.size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    pattern = _TEXTURES[scene.ground](x, y, rng)
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(rng.uniform(3, 8))
    base = np.array(GROUNDS[scene.ground], np.float32) + rng.normal(0, 6, 3).astype(np.float32)
    pixels: NDArray[np.uint8] = np.clip(base + (pattern + grain)[..., None], 0, 255).astype(
        np.uint8
    )
    return pixels


def _clouds(x: Field, y: Field, rng: np.random.Generator, cell: float) -> Field:
    """Smooth random field of about unit size that changes over ``cell`` pixels."""
    height, width = x.shape
    coarse = rng.standard_normal(
        (math.ceil(height / cell) + 1, math.ceil(width / cell) + 1), dtype=np.float32
    )
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, np.float32)


def _grass(x: Field, y: Field, rng: np.random.Generator) -> Field:
    return 14 * _clouds(x, y * 0.5, rng, 5) + 10 * _clouds(x, y, rng, 40)


def _sand(x: Field, y: Field, rng: np.random.Generator) -> Field:
    bend = 10 * _clouds(x, y, rng, 70)
    return np.asarray(
        9 * np.sin((x * rng.uniform(-0.4, 0.4) + y + bend) * rng.uniform(0.25, 0.45)), np.float32
    )


def _brick(x: Field, y: Field, rng: np.random.Generator) -> Field:
    high = rng.uniform(16, 24)
    row = np.floor(y / high + rng.uniform())
    across = x / (2.4 * high) + 0.5 * (row % 2) + rng.uniform()
    column = np.floor(across)
    joint = ((y / high + rng.uniform()) % 1 < 0.12) | (across % 1 < 0.06)
    tone = np.sin(row * 12.9898 + column * 78.233) * 14
    return np.asarray(np.where(joint, 32, tone), np.float32)


def _water(x: Field, y: Field, rng: np.random.Generator) -> Field:
    bend = 14 * _clouds(x, y, rng, 50)
    waves = np.sin((y + bend) * rng.uniform(0.15, 0.3)) + np.sin(
        (y + 0.3 * x - bend) * rng.uniform(0.3, 0.5)
    )
    return np.asarray(10 * waves, np.float32)


def _wood(x: Field, y: Field, rng: np.random.Generator) -> Field:
    board = rng.uniform(40, 70)
    tone = np.sin(np.floor(x / board) * 37.7) * 12
    veins = 10 * np.sin((x + 6 * _clouds(x, y, rng, 60)) * rng.uniform(0.5, 0.9))
    return np.asarray(np.where(x % board < 2, -40, tone + veins), np.float32)


def _stone(x: Field, y: Field, rng: np.random.Generator) -> Field:
    return 12 * _clouds(x, y, rng, 12) + 12 * _clouds(x, y, rng, 35)


_TEXTURES = {
    "grass": _grass,
    "sand": _sand,
    "brick": _brick,
    "water": _water,
    "wood": _wood,
    "stone": _stone,
}


def _draw_sign(
    pen: ImageDraw.ImageDraw,
    sign: Sign,
    plate: Rgb,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    ink = (14, 14, 20) if sign.color in LIGHT_PLATES else (252, 252, 246)
    pen.rectangle(sign.box, fill=plate, outline=ink, width=2)
    for slot, glyph in enumerate(sign.text):
        pen.text(sign.centre(slot), glyph, font=font, fill=ink, anchor="mm")


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, color: Rgb, tilt: float) -> None:
    edge = (color[0] * 4 // 10, color[1] * 4 // 10, color[2] * 4 // 10)
    if thing.shape == "circle":
        box = (
            thing.x - thing.radius,
            thing.y - thing.radius,
            thing.x + thing.radius,
            thing.y + thing.radius,
        )
        pen.ellipse(box, fill=color, outline=edge, width=2)
        return
    sine, cosine = math.sin(tilt) * thing.radius, math.cos(tilt) * thing.radius
    corners = [
        (thing.x + u * cosine - v * sine, thing.y + u * sine + v * cosine)
        for u, v in outline(thing.shape)
    ]
    pen.polygon(corners, fill=color, outline=edge, width=2)


@cache
def outline(shape: str) -> tuple[tuple[float, float], ...]:
    """Corners of an upright shape of radius 1 around the origin."""
    if shape == "cross":
        w = 0.33
        arm = (
            (-w, -1),
            (w, -1),
            (w, -w),
            (1, -w),
            (1, w),
            (w, w),
            (w, 1),
            (-w, 1),
            (-w, w),
            (-1, w),
            (-1, -w),
            (-w, -w),
        )
        return tuple((float(u), float(v)) for u, v in arm)
    if shape == "diamond":
        return ((0.0, -1.1), (0.7, 0.0), (0.0, 1.1), (-0.7, 0.0))
    radii, start = {
        "square": ((1.1,) * 4, math.pi / 4),
        "triangle": ((1.12,) * 3, -math.pi / 2),
        "star": ((1.12, 0.5) * 5, -math.pi / 2),
    }[shape]
    step = 2 * math.pi / len(radii)
    return tuple(
        (r * math.cos(start + i * step), r * math.sin(start + i * step))
        for i, r in enumerate(radii)
    )


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)
