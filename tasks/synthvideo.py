"""synthvideo: drawn clips of 8 to 16 frames, and questions that no single frame answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, islice, pairwise
from typing import ClassVar, Literal, get_args

import numpy as np

from unibench.errors import UsageError, unknown
from unibench.tasks._task import Sample
from unibench.tasks.synthvqa._frames import draw_frames
from unibench.tasks.synthvqa._palette import GLYPHS, GROUNDS, PLATES, SEEN
from unibench.tasks.synthvqa._prompts import Voice
from unibench.tasks.synthvqa._questions import Question
from unibench.tasks.synthvqa._scene import PADDING, SIGN_HEIGHT, Scene, Sign, Thing, _Layout

SIDE = 224
LENGTHS = range(8, 17, 2)  # of a clip; even, since Qwen joins two frames to one
SPLITS = {"test": 50_000_000, "dev": 40_000_000}  # training stays below 30,000,000
Direction = Literal["left", "right", "up", "down"]
_STEPS: dict[Direction, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}

# The first of each is the benchmark's; training draws from all.
STEMS: dict[str, tuple[str, ...]] = {
    "first": (
        "Which appears first: the {}, the {} or the {}?",
        "Which of these is the first to appear: {}, {}, {}?",
    ),
    "last": (
        "Which appears last: the {}, the {} or the {}?",
        "Which of these is the last to appear: {}, {}, {}?",
    ),
    "motion": (
        "Does the {} move left, right, up or down?",
        "Which way does the {} move: left, right, up or down?",
    ),
    "repetition": ("How many times is the {} there?", "How often does the {} appear?"),
    "flash": (
        "What is written on the sign that is shown for one frame?",
        "What does the sign say that is shown for one frame?",
    ),
    "still": (
        "Which object is there all the time and does not move?",
        "Which object does not change?",
    ),
}


@dataclass(frozen=True)
class Clip:
    """What happens in a clip. No two things have one name.

    Attributes:
        seed: texture and looks follow from it.
        ground: its kind.
        still: there all the time.
        mover: its place in the first frame; it moves evenly by ``speed`` pixels a frame.
        direction: of the mover.
        speed: of the mover.
        blinker: there, away and there again.
        blinks: whether the blinker is there, by frame.
        arrivals: things that appear, in order, and stay.
        arrived: the frame in which each appears, two apart at least.
        sign: shown for one frame.
        shown: that frame.
    """

    seed: int
    ground: str
    still: Thing
    mover: Thing
    direction: Direction
    speed: float
    blinker: Thing
    blinks: tuple[bool, ...]
    arrivals: tuple[Thing, ...]
    arrived: tuple[int, ...]
    sign: Sign
    shown: int

    @cached_property
    def frames(self) -> tuple[Scene, ...]:
        """What each frame shows."""
        return tuple(self._frame(number) for number in range(len(self.blinks)))

    @property
    def appearances(self) -> int:
        """How many times the blinker is there."""
        return sum(now and not then for then, now in pairwise((False, *self.blinks)))

    def _frame(self, number: int) -> Scene:
        across, down = _STEPS[self.direction]
        moved = replace(
            self.mover,
            x=self.mover.x + across * self.speed * number,
            y=self.mover.y + down * self.speed * number,
        )
        things = [self.still, moved]
        if self.blinks[number]:
            things.append(self.blinker)
        for thing, start in zip(self.arrivals, self.arrived, strict=True):
            if start <= number:
                things.append(thing)
        signs = (self.sign,) if number == self.shown else ()
        return Scene(self.seed, (SIDE, SIDE), self.ground, signs, tuple(things))


def make_clip(seed: int, frames: int = 8) -> Clip:
    """The clip of a seed, the same in every process; nothing overlaps in any frame."""
    rng = np.random.default_rng([96, seed, frames])
    ground = str(rng.choice(list(GROUNDS)))
    direction = get_args(Direction)[int(rng.integers(4))]
    kinds = [SEEN[int(kind)] for kind in rng.permutation(len(SEEN))[:6]]
    blinks, arrived = _blinks(rng, frames), _arrivals(rng, frames)
    color = str(rng.choice(list(PLATES)))
    text = "".join(rng.choice(list(GLYPHS), int(rng.integers(2, 4))))
    shown = int(rng.integers(frames))
    while True:  # a crowded draw that leaves no room starts again
        layout = _Layout((SIDE, SIDE), rng)
        speed = float(rng.uniform(60, 90)) / (frames - 1)
        mover = _mover(layout, kinds[0], direction, speed * (frames - 1))
        # wider than in pictures: where 32 pixels make a token, each character has its own
        advance = float(rng.uniform(33.0, 35.0))
        corner = layout.place(advance * len(text) + 2 * PADDING, SIGN_HEIGHT)
        placed = [_thing(layout, *kind) for kind in kinds[1:]]
        things = [thing for thing in placed if thing is not None]
        if mover is None or corner is None or len(things) < len(placed):
            continue
        still, blinker, *arrivals = things
        return Clip(
            seed=seed,
            ground=ground,
            still=still,
            mover=mover,
            direction=direction,
            speed=speed,
            blinker=blinker,
            blinks=blinks,
            arrivals=tuple(arrivals[: len(arrived)]),
            arrived=arrived,
            sign=Sign(color, text, *corner, advance),
            shown=shown,
        )


def _blinks(rng: np.random.Generator, frames: int) -> tuple[bool, ...]:
    """There in the first frame and away in the last, with one to three stretches of being there."""
    number = int(rng.integers(1, 4))
    # lengths of there, away, there, away, ...; each is one frame at least
    cuts = np.sort(rng.choice(np.arange(1, frames), 2 * number - 1, replace=False))
    lengths = np.diff([0, *cuts.tolist(), frames])
    return tuple(bool(i % 2 == 0) for i, length in enumerate(lengths) for _ in range(int(length)))


def _arrivals(rng: np.random.Generator, frames: int) -> tuple[int, ...]:
    """Three frames after the first, two apart at least."""
    # drawn without a gap from a shorter clip, then moved apart
    drawn = np.sort(rng.choice(np.arange(1, frames - 2), 3, replace=False))
    return tuple(int(frame) + i for i, frame in enumerate(drawn))


def _thing(layout: _Layout, color: str, shape: str) -> Thing | None:
    radius = float(layout.rng.uniform(14, 18))
    corner = layout.place(2 * radius, 2 * radius)
    return Thing(color, shape, corner[0] + radius, corner[1] + radius, radius) if corner else None


def _mover(
    layout: _Layout, kind: tuple[str, str], direction: Direction, path: float
) -> Thing | None:
    """A thing at the start of a free strip."""
    radius = float(layout.rng.uniform(14, 18))
    across, down = _STEPS[direction]
    corner = layout.place(2 * radius + abs(across) * path, 2 * radius + abs(down) * path)
    if corner is None:
        return None
    # who moves left or up starts at the far end of the strip
    x = corner[0] + radius + (path if across < 0 else 0)
    y = corner[1] + radius + (path if down < 0 else 0)
    return Thing(*kind, x, y, radius)


def ask(
    ability: str,
    clip: Clip,
    rng: np.random.Generator,
    *,
    varied: bool = False,
    brief: float = 0.0,
) -> Question:
    """A question of an ability about a clip."""
    voice = Voice(rng, varied, brief)
    return _MAKERS[ability](clip, voice)


def _order(clip: Clip, voice: Voice) -> Question:
    which = ("first", "last")[int(voice.rng.integers(2))]
    thing = clip.arrivals[0 if which == "first" else -1]
    named = [clip.arrivals[int(i)].name for i in voice.rng.permutation(len(clip.arrivals))]
    text = voice.put("open", voice.pick(STEMS[which]).format(*named))
    return Question(text, thing.name, which, 1 / len(clip.arrivals))


def _motion(clip: Clip, voice: Voice) -> Question:
    stem = voice.pick(STEMS["motion"]).format(clip.mover.name)
    return Question(voice.put("open", stem), clip.direction, "motion", 0.25)


def _repetition(clip: Clip, voice: Voice) -> Question:
    stem = voice.pick(STEMS["repetition"]).format(clip.blinker.name)
    return Question(voice.put("open", stem), str(clip.appearances), "repetition", 1 / 3)


def _flash(clip: Clip, voice: Voice) -> Question:
    text = voice.put("open", voice.pick(STEMS["flash"]))
    return Question(text, clip.sign.text, "flash", 0.0)


def _still(clip: Clip, voice: Voice) -> Question:
    text = voice.put("open", voice.pick(STEMS["still"]))
    return Question(text, clip.still.name, "still", 1 / 6)


_MAKERS: dict[str, Callable[[Clip, Voice], Question]] = {
    "order": _order,
    "motion": _motion,
    "repetition": _repetition,
    "flash": _flash,
    "still": _still,
}
ABILITIES = tuple(_MAKERS)


class SynthVideo:
    """Drawn clips of 224 x 224 pixels: order, motion, repetition, a sign of one frame, what stays.

    In each clip one thing stays, one moves, one comes and goes, three appear one after the other,
    and a sign is shown for one frame. ``order`` names the three and asks which was first or last,
    ``motion`` for one of four directions, ``repetition`` how many times (1-3) a thing was there,
    ``flash`` for the 2-3 characters of the sign, ``still`` which thing did not change. Sample ``i``
    has ability ``i mod 5`` and is about clip ``i div 5``.

    ``task.modality=image`` shows the frames as pictures, to models that read no video.

    Args:
        split: ``"test"``, or ``"dev"`` for trying things out. None shares a clip with training.
        frames: of a clip: 8, 10, 12, 14 or 16.
        seed: another draw of the split.
        shuffled: shows the next clip in place of the one asked about. What a model scores then it
            knows without looking.
        size: number of samples where no limit is given.
    """

    name: ClassVar[str] = "synthvideo"
    limit: ClassVar[int] = 200
    metric: ClassVar[str] = "accuracy"
    modality: ClassVar[str] = "video"
    max_new_tokens: ClassVar[int] = 16
    abilities: ClassVar[tuple[str, ...]] = ABILITIES

    def __init__(
        self,
        *,
        split: str = "test",
        frames: int = 8,
        seed: int = 0,
        shuffled: bool = False,
        size: int = 1000,
    ) -> None:
        if split not in SPLITS:
            raise unknown("split of synthvideo", split, tuple(SPLITS))
        if frames not in LENGTHS:
            allowed = ", ".join(map(str, LENGTHS))
            raise UsageError(f"frames of synthvideo: {frames} given, one of {allowed} wanted")
        self.split, self.frames, self.seed = split, frames, seed
        self.shuffled, self.size = shuffled, size

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """The first ``limit`` samples (``size`` without it); there is no end of them. The pictures
        of a sample are the frames of its clip.
        """
        return islice(self._all(), self.size if limit is None else limit)

    def score(self, sample: Sample, answer: str) -> float:
        """1 where the answer is the accepted one, whatever its case."""
        return float(answer.strip().casefold() in map(str.casefold, sample.answers))

    def _all(self) -> Iterator[Sample]:
        kind = f"{self.split}-{self.frames}" + ("-shuffled" if self.shuffled else "")
        first = SPLITS[self.split] + self.seed * 1_000_000
        for clip, following in pairwise(make_clip(seed, self.frames) for seed in count(first)):
            images = draw_frames((following if self.shuffled else clip).frames)
            group = f"clip-{kind}-{clip.seed}"
            for i, ability in enumerate(ABILITIES):
                asked = ask(ability, clip, np.random.default_rng([100, clip.seed, i]))
                yield Sample(
                    f"{group}-{ability}", images, asked.text, (asked.answer,), ability, group
                )
