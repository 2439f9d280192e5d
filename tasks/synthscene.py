"""synthscene: drawn pictures asked for places, relations, a second time, and several at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice, pairwise
from typing import ClassVar

import numpy as np
from PIL.Image import Image

from unibench.errors import unknown
from unibench.tasks._task import Sample
from unibench.tasks.synthvqa._draw import draw
from unibench.tasks.synthvqa._frames import box_of, draw_frames
from unibench.tasks.synthvqa._palette import GLYPHS, GROUNDS, PLATES, SEEN
from unibench.tasks.synthvqa._prompts import Voice
from unibench.tasks.synthvqa._questions import Asker, Question, article, attribute
from unibench.tasks.synthvqa._scene import (
    PADDING,
    SIDE,
    SIGN_HEIGHT,
    Box,
    Scene,
    Sign,
    Thing,
    _Layout,
)
from unibench.tasks.synthvqa._scene import make_scene as make_crowded_scene

IOU = 0.5  # least overlap of a box that is right, as RefCOCO counts it
SMALL = 224  # side of each of several pictures
ORDINALS = ("first", "second", "third")
DIRECTIONS = ("left", "right", "above", "below")
SPLITS = {"test": 50_000_000, "dev": 40_000_000}  # training stays below 30,000,000
_BOX = re.compile(r"-?\d+(?:\.\d+)?")

# The first of each is the benchmark's; training draws from all.
WHERE = (
    "Where is the {}? Give its box as [left,top,right,bottom] in percent.",
    "Give the box of the {} as [left,top,right,bottom] in percent.",
    "Locate the {}: [left,top,right,bottom] in percent.",
)
RELATION = (
    "Is the {} left, right, above or below the {}?",
    "Where is the {} from the {}: left, right, above or below?",
)
AGAIN = (
    "{}\nAnswer: {}\nNext question: {}",
    "Question: {}\nAnswer: {}\nQuestion: {}",
    "{}\n{}\n{}",
)
WHICH = (
    "Which image shows {}: first, second or third?",
    "Which of the images shows {}?",
    "In which image is {}?",
)


@dataclass(frozen=True)
class Round:
    """What the questions of one seed are about.

    Attributes:
        scene: few large things, no two alike, and signs.
        several: crowded scenes of :data:`SMALL` pixels, shown together.
    """

    scene: Scene
    several: tuple[Scene, ...]

    @cached_property
    def picture(self) -> Image:
        """The scene, drawn."""
        return draw_frames([self.scene])[0]

    @cached_property
    def pictures(self) -> tuple[Image, ...]:
        """The several scenes, drawn."""
        return tuple(draw(scene) for scene in self.several)


def make_round(seed: int) -> Round:
    """The round of a seed, the same in every process."""
    # beyond every seed of synthvqa, so that training shows none of its pictures
    start = 100_000_000 + 3 * seed
    several = tuple(make_crowded_scene(start + i, (SMALL, SMALL)) for i in range(3))
    return Round(make_scene(seed), several)


def make_scene(seed: int) -> Scene:
    """A scene of 4-6 large things, no two alike, and 1-2 signs."""
    rng = np.random.default_rng([95, seed])
    ground = str(rng.choice(list(GROUNDS)))
    while True:  # a crowded draw that leaves no room starts again
        layout = _Layout((SIDE, SIDE), rng)
        signs = [_sign(layout, str(color)) for color in rng.permutation(list(PLATES))[:2]]
        signs = signs[: int(rng.integers(1, 3))]
        kinds = rng.permutation(len(SEEN))[: int(rng.integers(4, 7))]
        things = [_thing(layout, *SEEN[int(kind)]) for kind in kinds]
        if None not in signs and None not in things:
            shown = tuple(sign for sign in signs if sign), tuple(thing for thing in things if thing)
            return Scene(seed, (SIDE, SIDE), ground, *shown)


def _sign(layout: _Layout, color: str) -> Sign | None:
    text = "".join(layout.rng.choice(list(GLYPHS), int(layout.rng.integers(3, 6))))
    advance = float(layout.rng.uniform(27.5, 29.5))
    corner = layout.place(advance * len(text) + 2 * PADDING, SIGN_HEIGHT)
    return Sign(color, text, *corner, advance) if corner else None


def _thing(layout: _Layout, color: str, shape: str) -> Thing | None:
    radius = float(layout.rng.uniform(24, 44))
    side = 2.3 * radius  # the corners of some shapes lie outside of the radius
    corner = layout.place(side, side)
    if corner is None:
        return None
    return Thing(color, shape, corner[0] + side / 2, corner[1] + side / 2, radius)


def ask(
    ability: str,
    shown: Round,
    rng: np.random.Generator,
    *,
    varied: bool = False,
    brief: float = 0.0,
) -> Question | None:
    """A question of an ability, or None where there is nothing to ask about."""
    voice = Voice(rng, varied, brief)
    if ability == "several_pictures":
        return _which(shown.several, rng, voice)
    return _MAKERS[ability](Asker(shown.scene, rng, voice))


def _where(a: Asker) -> Question:
    boxes = {thing.name: box_of(a.scene, thing) for thing in a.scene.things}
    boxes |= {f"{sign.color} sign": sign.box for sign in a.scene.signs}
    name = a.one_of(list(boxes))
    percent = [round(100 * edge / SIDE) for edge in boxes[name]]
    answer = "[" + ",".join(str(min(99, max(0, edge))) for edge in percent) + "]"
    return Question(a.voice.pick(WHERE).format(name), answer, "where", 0.0)


def relation_of(one: Thing, other: Thing) -> str | None:
    """Where one thing is from another; the axis along which they are clearly further apart decides,
    None where there is none.
    """
    across, down = one.x - other.x, one.y - other.y
    if max(abs(across), abs(down)) < 1.6 * min(abs(across), abs(down)):
        return None
    return DIRECTIONS[(across > 0) if abs(across) > abs(down) else 2 + (down > 0)]


def _relation(a: Asker) -> Question | None:
    """How two things lie to each other."""
    pairs: list[tuple[str, str, str]] = []
    for one in a.scene.things:
        for other in a.scene.things:
            if one is not other and (word := relation_of(one, other)) is not None:
                pairs.append((one.name, other.name, word))
    if not pairs:
        return None
    one_name, other_name, word = pairs[int(a.rng.integers(len(pairs)))]
    text = a.voice.put("open", a.voice.pick(RELATION).format(one_name, other_name))
    return Question(text, word, "relation", 0.25)


def _second_question(a: Asker) -> Question | None:
    """Two questions about different things, of which the first is answered in the prompt."""
    asked = [_reading(a, sign) for sign in a.scene.signs]
    if (found := attribute(a)) is not None:
        asked.append((found[0], found[1], 1 / len(found[2])))
    named = Counter(thing.shape for thing in a.scene.things)
    for thing in a.scene.things:
        if named[thing.shape] == 1:
            stem = a.voice.stem("color", thing.shape)
            if found is None or (stem, thing.color) != found[:2]:
                asked.append((stem, thing.color, 1 / 6))
    if len(asked) < 2:
        return None
    first, second = (asked[int(i)] for i in a.rng.permutation(len(asked))[:2])
    if first[0] == second[0]:
        return None
    text = a.voice.pick(AGAIN).format(first[0], first[1], second[0])
    return Question(text, second[1], "second_question", second[2])


def _reading(a: Asker, sign: Sign) -> tuple[str, str, float]:
    return a.voice.stem("reading", sign.color), sign.text, 0.0


def names_of(scene: Scene) -> set[str]:
    """Of its things and signs."""
    return {thing.name for thing in scene.things} | {f"{sign.color} sign" for sign in scene.signs}


def _which(scenes: Sequence[Scene], rng: np.random.Generator, voice: Voice) -> Question | None:
    """Something that exactly one of the pictures shows."""
    names = [names_of(scene) for scene in scenes]
    number = Counter(name for shown in names for name in shown)
    which = int(rng.integers(len(scenes)))
    single = sorted(name for name in names[which] if number[name] == 1)
    if not single:
        return None
    asked = single[int(rng.integers(len(single)))]
    text = voice.put("open", voice.pick(WHICH).format(article(asked)))
    return Question(text, ORDINALS[which], "several_pictures", 1 / 3)


_MAKERS: dict[str, Callable[[Asker], Question | None]] = {
    "where": _where,
    "relation": _relation,
    "second_question": _second_question,
}
ABILITIES = (*_MAKERS, "several_pictures")


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes; 0 where one has no area.

    >>> overlap((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    if min(width, height, *areas) <= 0:
        return 0.0
    return width * height / (sum(areas) - width * height)


def parse_box(text: str) -> Box | None:
    """The box that an answer names: four numbers and no more; None where it names none.

    >>> parse_box("[10,20,30,40]")
    (10.0, 20.0, 30.0, 40.0)
    """
    numbers = [float(number) for number in _BOX.findall(text)]
    if len(numbers) != 4:
        return None
    left, top, right, bottom = numbers
    return left, top, right, bottom


class SynthScene:
    """Places, relations, a second question, and several drawn pictures.

    ``where`` asks for the box of a thing or a sign, right from an intersection over union of 0.5
    on; ``relation`` how two things lie to each other; ``second_question`` shows an earlier question
    about something else with its answer before the question, in the same turn;
    ``several_pictures`` shows three pictures and asks which of them shows a thing. Sample ``i`` has
    ability ``i mod 4`` and belongs to round ``i div 4``.

    Args:
        split: ``"test"``, or ``"dev"`` for trying things out. None shares a picture with training.
        seed: another draw of the split.
        shuffled: shows the pictures of the next round. What a model scores then it knows without
            looking.
        size: number of samples where no limit is given.
    """

    name: ClassVar[str] = "synthscene"
    limit: ClassVar[int] = 200
    metric: ClassVar[str] = "accuracy"
    max_new_tokens: ClassVar[int] = 24
    abilities: ClassVar[tuple[str, ...]] = ABILITIES

    def __init__(
        self, *, split: str = "test", seed: int = 0, shuffled: bool = False, size: int = 1000
    ) -> None:
        if split not in SPLITS:
            raise unknown("split of synthscene", split, tuple(SPLITS))
        self.split, self.seed, self.shuffled, self.size = split, seed, shuffled, size

    def samples(self, limit: int | None = None) -> Iterator[Sample]:
        """The first ``limit`` samples (``size`` without it); there is no end of them."""
        return islice(self._all(), self.size if limit is None else limit)

    def score(self, sample: Sample, answer: str) -> float:
        """1 where the answer is the accepted one, whatever its case; of a box, where it overlaps by
        :data:`IOU`.
        """
        if sample.ability == "where":
            given, wanted = parse_box(answer), parse_box(sample.answers[0])
            return float(None not in (given, wanted) and overlap(given, wanted) >= IOU)  # type: ignore[arg-type]
        return float(answer.strip().casefold() in map(str.casefold, sample.answers))

    def _all(self) -> Iterator[Sample]:
        kind = f"{self.split}-shuffled" if self.shuffled else self.split
        for (shown, questions), (other, _) in pairwise(self._rounds()):
            seen = other if self.shuffled else shown
            for ability, question in questions.items():
                several = ability == "several_pictures"
                images = seen.pictures if several else (seen.picture,)
                group = f"scene-{kind}-{shown.scene.seed}{'-several' if several else ''}"
                name = f"scene-{kind}-{shown.scene.seed}-{ability}"
                asked = question.text, (question.answer,), ability
                # of a question about the picture that is shown, where its answer lies
                box = None if self.shuffled or ability != "where" else parse_box(question.answer)
                boxes = () if box is None else ((tuple(edge / 100 for edge in box),),)
                yield Sample(name, images, *asked, group, boxes)

    def _rounds(self) -> Iterator[tuple[Round, dict[str, Question]]]:
        """Rounds about which every ability can ask, with the questions."""
        for seed in count(SPLITS[self.split] + self.seed * 1_000_000):
            shown, questions = make_round(seed), dict[str, Question]()
            for i, ability in enumerate(ABILITIES):
                question = ask(ability, shown, np.random.default_rng([99, seed, i]))
                if question is not None:
                    questions[ability] = question
            if len(questions) == len(ABILITIES):
                yield shown, questions
