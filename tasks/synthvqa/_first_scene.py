"""First edition of the pictures: few large shapes on a plain ground, at most one sign.

The first tiny checkpoint was trained on them. They are too empty to tell strong pruning methods
apart; the fuller second edition replaces them once a checkpoint reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 336
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
COLORS = {
    "red": (214, 40, 40),
    "green": (34, 150, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 215, 40),
    "purple": (140, 50, 170),
    "orange": (245, 130, 20),
}
GROUNDS = {
    "white": (238, 238, 236),
    "black": (28, 28, 30),
    "gray": (132, 132, 134),
    "brown": (120, 84, 56),
    "pink": (246, 190, 205),
    "cyan": (130, 220, 225),
}
GLYPHS = "0123456789ACEFHKLMNPRTUVXY"  # no two that look alike
ADVANCE, SIGN_HEIGHT, MARGIN = 31, 46, 4

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """A coloured shape: names, centre and radius in pixels."""

    shape: str
    color: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """All that is in a picture.

    Attributes:
        seed: the picture can be drawn again from it.
        ground: colour name of the background.
        things: coloured shapes; no two overlap.
        text: what the sign says, empty if there is none.
        sign: its box.
    """

    seed: int
    ground: str
    things: tuple[Thing, ...]
    text: str
    sign: Box | None


@dataclass
class _Layout:
    taken: list[Box] = field(default_factory=list)

    def claim(self, box: Box) -> bool:
        """Takes a box if it overlaps none that was taken before."""
        if any(box[0] <= b[2] and b[0] <= box[2] and box[1] <= b[3] and b[1] <= box[3] for b in self.taken):
            return False
        self.taken.append(box)
        return True


def make_scene(seed: int) -> Scene:
    """The scene of a seed, the same in every process."""
    rng = np.random.default_rng([77, seed])
    ground = str(rng.choice(list(GROUNDS)))
    layout = _Layout()
    text, sign = _place_sign(rng, layout) if rng.random() < 0.85 else ("", None)
    return Scene(seed, ground, _place_things(rng, layout), text, sign)


def _place_sign(rng: np.random.Generator, layout: _Layout) -> tuple[str, Box]:
    text = "".join(rng.choice(list(GLYPHS), int(rng.integers(2, 5))))
    width = ADVANCE * len(text) + 14
    left, top = rng.uniform(MARGIN, SIDE - MARGIN - width), rng.uniform(MARGIN, SIDE - MARGIN - SIGN_HEIGHT)
    layout.claim((left - MARGIN, top - MARGIN, left + width + MARGIN, top + SIGN_HEIGHT + MARGIN))
    return text, (float(left), float(top), float(left + width), float(top + SIGN_HEIGHT))


def _place_things(rng: np.random.Generator, layout: _Layout) -> tuple[Thing, ...]:
    number = int(rng.integers(1, 7))
    # Half of the pictures repeat one or two kinds, or counts above two would hardly occur.
    kinds = int(rng.integers(1, 3)) if rng.random() < 0.5 else number
    palette = [(str(rng.choice(SHAPES)), str(rng.choice(list(COLORS)))) for _ in range(kinds)]
    chosen = palette if kinds == number else [palette[int(rng.integers(kinds))] for _ in range(number)]
    things = []
    for shape, color in chosen:
        radius = rng.uniform(23, 42)
        for _ in range(30):
            x, y = rng.uniform(radius + MARGIN, SIDE - radius - MARGIN, 2)
            reach = radius * 1.12
            if layout.claim((x - reach, y - reach, x + reach, y + reach)):
                things.append(Thing(shape, color, float(x), float(y), float(radius)))
                break
    return tuple(things)


def draw(scene: Scene) -> Image.Image:
    """The RGB picture of a scene."""
    rng = np.random.default_rng([81, scene.seed])
    image = Image.fromarray(_ground(GROUNDS[scene.ground], rng))
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        color = np.clip(np.array(COLORS[thing.color]) + rng.normal(0, 9, 3), 0, 255).astype(int)
        _draw_thing(pen, thing, tuple(color.tolist()), rng.uniform(-0.25, 0.25))
    if scene.sign is not None:
        dark = rng.random() < 0.5
        plate, ink = ((24, 40, 70), (250, 250, 240)) if dark else ((246, 244, 232), (18, 18, 24))
        pen.rectangle(scene.sign, fill=plate, outline=ink, width=2)
        font = _font(int(rng.integers(33, 39)))
        middle = (scene.sign[1] + scene.sign[3]) / 2
        for i, glyph in enumerate(scene.text):
            pen.text((scene.sign[0] + 7 + ADVANCE * (i + 0.5), middle), glyph, font=font, fill=ink, anchor="mm")
    return image


def _ground(color: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Grain, and in three of four pictures waves, a gradient or checks: ``[side, side, 3]`` uint8."""
    pixels = np.array(color, np.float32) + rng.normal(0, 5, 3).astype(np.float32)
    grain = rng.normal(0, rng.uniform(2, 9), (SIDE, SIDE, 1)).astype(np.float32)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    angle = rng.uniform(0, math.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    pattern = int(rng.integers(4))
    if pattern == 1:
        wave = np.sin(along * rng.uniform(0.08, 0.5))
    elif pattern == 2:
        wave = along / SIDE * 2 - 1
    elif pattern == 3:
        pitch = rng.uniform(0.05, 0.25)
        wave = np.sign(np.sin(x * pitch) * np.sin(y * pitch))
    else:
        wave = np.zeros_like(x)
    picture: np.ndarray = np.clip(pixels + grain + (wave * rng.uniform(4, 14))[..., None], 0, 255).astype(np.uint8)
    return picture


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, color: tuple[int, ...], tilt: float) -> None:
    edge = tuple(int(channel * 0.55) for channel in color)
    if thing.shape == "circle":
        box = (thing.x - thing.radius, thing.y - thing.radius, thing.x + thing.radius, thing.y + thing.radius)
        pen.ellipse(box, fill=color, outline=edge, width=2)
        return
    sine, cosine = math.sin(tilt), math.cos(tilt)
    corners = [
        (thing.x + thing.radius * (u * cosine - v * sine), thing.y + thing.radius * (u * sine + v * cosine))
        for u, v in outline(thing.shape)
    ]
    pen.polygon(corners, fill=color, outline=edge)


@cache
def outline(shape: str) -> tuple[tuple[float, float], ...]:
    """Corners of an upright shape of radius 1 around the origin."""
    if shape == "cross":
        w = 0.33
        arm = ((-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w), (w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w))
        return tuple((float(u), float(v)) for u, v in arm)
    if shape == "diamond":
        return ((0.0, -1.12), (0.72, 0.0), (0.0, 1.12), (-0.72, 0.0))
    radii, start = {
        "square": ((1.1,) * 4, math.pi / 4),
        "triangle": ((1.12,) * 3, -math.pi / 2),
        "star": ((1.12, 0.5) * 5, -math.pi / 2),
    }[shape]
    step = 2 * math.pi / len(radii)
    return tuple((r * math.cos(start + i * step), r * math.sin(start + i * step)) for i, r in enumerate(radii))


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)
