"""What is in a picture: signs with text, small things, a kind of ground."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from unibench.tasks.synthvqa._palette import COLORS, GLYPHS, GROUNDS, HELD_OUT, PLATES, SEEN, SHAPES

SIDE = 336
MARGIN = 3
PADDING = 6  # between the edge of a plate and its text
SIGN_HEIGHT = 40

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """A small coloured shape: names, centre and radius in pixels."""

    color: str
    shape: str
    x: float
    y: float
    radius: float

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Sign:
    """A plate with text; no two signs of a picture have the same colour.

    Attributes:
        color: of the plate.
        text: 2-6 glyphs.
        left, top: corner of the plate in pixels.
        advance: distance between two glyphs.
    """

    color: str
    text: str
    left: float
    top: float
    advance: float

    @property
    def box(self) -> Box:
        return (
            self.left,
            self.top,
            self.left + self.advance * len(self.text) + 2 * PADDING,
            self.top + SIGN_HEIGHT,
        )

    def centre(self, slot: int) -> tuple[float, float]:
        """Middle of a glyph."""
        return self.left + PADDING + self.advance * (slot + 0.5), self.top + SIGN_HEIGHT / 2


@dataclass(frozen=True)
class Scene:
    """All that is in a picture; nothing overlaps.

    Attributes:
        seed: texture and small variations of the drawing follow from it.
        size: width and height in pixels.
        ground: its kind.
        signs: 3-5 for a picture of 336 x 336, with 12-24 glyphs together.
        things: 6-12 for a picture of 336 x 336.
    """

    seed: int
    size: tuple[int, int]
    ground: str
    signs: tuple[Sign, ...]
    things: tuple[Thing, ...]


@dataclass
class _Layout:
    size: tuple[int, int]
    rng: np.random.Generator
    taken: list[Box] = field(default_factory=list)

    def place(self, width: float, height: float, tries: int = 80) -> tuple[float, float] | None:
        """The corner of a free place of this size, which is taken from now on."""
        for _ in range(tries):
            left = float(self.rng.uniform(MARGIN, self.size[0] - MARGIN - width))
            top = float(self.rng.uniform(MARGIN, self.size[1] - MARGIN - height))
            box = (left - MARGIN, top - MARGIN, left + width + MARGIN, top + height + MARGIN)
            if not any(
                box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3]
                for b in self.taken
            ):
                self.taken.append(box)
                return left, top
        return None


def make_scene(
    seed: int, size: tuple[int, int] = (SIDE, SIDE), held_out: bool = False, fill: float = 1.0
) -> Scene:
    """The scene of a seed, the same in every process.

    Args:
        seed: any number.
        size: width and height; the number of signs and things grows with the area.
        held_out: show at least two things whose pair of colour and shape is kept from training;
            otherwise none.
        fill: share of the usual number of signs and things; training starts with fewer.
    """
    rng = np.random.default_rng([91, seed])
    area = fill * size[0] * size[1] / SIDE**2
    ground = str(rng.choice(list(GROUNDS)))
    lengths = _lengths(rng, area)
    kinds = _kinds(rng, max(1, int(rng.integers(round(6 * area), round(12 * area) + 1))), held_out)
    radii = rng.uniform(12, 17, len(kinds))
    plates = [str(color) for color in rng.permutation(list(PLATES))]
    texts = ["".join(rng.choice(list(GLYPHS), length)) for length in lengths]
    advances = [float(advance) for advance in rng.uniform(27.5, 29.5, len(lengths))]
    while True:  # a crowded draw that leaves no room starts again
        layout = _Layout(size, rng)
        signs = [_sign(layout, *parts) for parts in zip(plates, texts, advances, strict=False)]
        things = [
            _thing(layout, *kind, float(radius)) for kind, radius in zip(kinds, radii, strict=True)
        ]
        if None not in signs and None not in things:
            return Scene(
                seed, size, ground, tuple(s for s in signs if s), tuple(t for t in things if t)
            )


def _sign(layout: _Layout, color: str, text: str, advance: float) -> Sign | None:
    corner = layout.place(advance * len(text) + 2 * PADDING, SIGN_HEIGHT)
    return Sign(color, text, *corner, advance) if corner else None


def _thing(layout: _Layout, color: str, shape: str, radius: float) -> Thing | None:
    corner = layout.place(2 * radius, 2 * radius)
    return Thing(color, shape, corner[0] + radius, corner[1] + radius, radius) if corner else None


def _lengths(rng: np.random.Generator, area: float) -> list[int]:
    """Lengths of the texts, longest first because they are hardest to place."""
    fewest, most = round(12 * area), round(24 * area)
    while True:
        number = min(len(PLATES), max(1, int(rng.integers(round(3 * area), round(5 * area) + 1))))
        lengths = [int(length) for length in rng.integers(2, 7, number)]
        if min(fewest, 5 * number) <= sum(lengths) <= most:
            return sorted(lengths, reverse=True)


def _kinds(rng: np.random.Generator, number: int, held_out: bool) -> list[tuple[str, str]]:
    """Pairs of colour and shape. Both are drawn with uneven weights, so that counts from 0 to 5 and
    colours and shapes that occur once are all common."""
    weights = np.array([3.0, 2.0, 1.2, 0.7, 0.4, 0.2])
    color_weight = dict(zip(rng.permutation(list(COLORS)), weights, strict=True))
    shape_weight = dict(zip(rng.permutation(list(SHAPES)), weights, strict=True))
    chance = np.array([color_weight[color] * shape_weight[shape] for color, shape in SEEN])
    kinds = [SEEN[int(i)] for i in rng.choice(len(SEEN), number, p=chance / chance.sum())]
    if held_out:
        for place, pair in zip(
            rng.permutation(number)[:2], rng.permutation(len(HELD_OUT))[:2], strict=True
        ):
            kinds[int(place)] = HELD_OUT[int(pair)]
    return kinds
