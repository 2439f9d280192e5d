"""The words of the benchmark and how they look."""

from __future__ import annotations

Rgb = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
PLURALS = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}
COLORS: dict[str, Rgb] = {
    "red": (222, 36, 40),
    "green": (20, 170, 60),
    "blue": (36, 72, 230),
    "yellow": (250, 225, 30),
    "purple": (150, 40, 185),
    "orange": (255, 135, 15),
}
# Plates of signs have colours of their own: "the pink sign" names nothing else in the picture.
PLATES: dict[str, Rgb] = {
    "white": (250, 250, 248),
    "black": (16, 16, 18),
    "gray": (128, 128, 132),
    "brown": (98, 58, 28),
    "pink": (252, 176, 205),
    "cyan": (120, 232, 240),
}
LIGHT_PLATES = ("white", "pink", "cyan")
GROUNDS: dict[str, Rgb] = {  # muted, so that things stand out on each of them
    "grass": (104, 134, 88),
    "sand": (206, 188, 148),
    "brick": (158, 104, 88),
    "water": (112, 140, 164),
    "wood": (164, 132, 96),
    "stone": (158, 156, 150),
}
GLYPHS = "0123456789ACEFHKLMNPRTUVXY"  # no two that look alike

# Pairs of colour and shape that no training picture shows and no training question names.
HELD_OUT = (("red", "star"), ("blue", "cross"), ("green", "diamond"), ("orange", "circle"))
SEEN = tuple(
    (color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in HELD_OUT
)
