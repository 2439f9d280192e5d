"""Lists of what is shown, for training only: many small answers at once, each right after the words
that it follows from.

In a question the answer comes several tokens after the words that decide it, so the decoder has to
learn two things together: to find what is shown at those words, and to carry it to the end. Here
the first is enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from training._aids import NTH
from unibench.tasks.synthscene import ORDINALS, names_of, relation_of
from unibench.tasks.synthvideo import Clip
from unibench.tasks.synthvqa._frames import box_of
from unibench.tasks.synthvqa._palette import COLORS, PLATES, SEEN, SHAPES
from unibench.tasks.synthvqa._prompts import LETTERS
from unibench.tasks.synthvqa._questions import Question
from unibench.tasks.synthvqa._scene import Scene, Thing

LONGEST = 6  # entries
MOST = 4  # things that are counted
NONE = "no"
LETTERED = 0.1  # share of lists of options, among those about scenes
OFTEN = {"there": 3}  # lists that are asked for more often than others
Entries = Mapping[str, str]
Shown = TypeVar("Shown")


@dataclass(frozen=True)
class Listing(Question):
    """A question whose answer is a list. What is asked for is told; the rest is to be answered.

    Attributes:
        entries: what is asked for, and the answer.
    """

    entries: tuple[tuple[str, str], ...]

    def spans(self) -> tuple[str, list[tuple[int, int]]]:
        """The whole list, and where in it the answers are.

        >>> Listing("Numbers.", "", "numbers", 0, (("red", "2"), ("circle", "no"))).spans()
        ('red2, circle no', [(3, 4), (13, 15)])
        """
        text, found = "", []
        for asked, answer in self.entries:
            # a digit or a capital is a token of its own, a word one with the space before it
            text += (", " if text else "") + asked + (" " if answer != answer.upper() else "")
            found.append((len(text), len(text) + len(answer)))
            text += answer
        return text, found


def listing(
    topic: str, asked: Entries, rng: np.random.Generator, heading: str | None = None
) -> Listing | None:
    """A list of some of the entries in any order; None where there are none."""
    keys = list(asked)
    chosen = [keys[int(i)] for i in rng.permutation(len(keys))[:LONGEST]]
    entries = tuple((key, asked[key]) for key in chosen)
    return Listing(heading or HEADINGS[topic], "", topic, 0.0, entries) if entries else None


def of_scene(scene: Scene, rng: np.random.Generator, places: bool) -> Listing | None:
    """A list about a scene; ``places``: its things have boxes and lie in some relation."""
    if rng.random() < LETTERED:
        return _lettered(rng)
    return _any_of({**_OF_SCENE, **(_OF_PLACES if places else {})}, scene, rng)


def places_of_scene(scene: Scene, rng: np.random.Generator, places: bool) -> Listing | None:
    """A list of where things are, in twelfths, or of one character of each sign; ``places``: of
    boxes too.
    """
    if rng.random() < 0.4:
        return _characters(scene, rng)
    return _any_of({**_GRID, **(_EDGES if places else {})}, scene, rng)


def _characters(scene: Scene, rng: np.random.Generator) -> Listing | None:
    """None but the first, which was learnt at once. For the others the sign was not looked at: the
    character at that place on any sign was named.
    """
    number = int(rng.integers(1, max(len(sign.text) for sign in scene.signs)))
    asked = {sign.color: sign.text[number] for sign in scene.signs if len(sign.text) > number}
    return listing("characters", asked, rng, f"The {NTH[number]} character of each sign.")


def places_of_clip(clip: Clip, rng: np.random.Generator) -> Listing | None:
    """A list of where and whether things are in one frame, or of when they appear."""
    number = int(rng.integers(len(clip.frames)))
    if rng.random() < 0.25:
        arrived = {
            thing.name: str(start + 1)
            for thing, start in zip(clip.arrivals, clip.arrived, strict=True)
        }
        return listing("arrivals", arrived, rng, "Frame of each new object.")
    makers: dict[str, Callable[[Clip], Entries]] = {
        "there": _at(number),
        "columns": lambda clip: _columns(clip.frames[number]),
        "rows": lambda clip: _rows(clip.frames[number]),
    }
    found = _any_of(makers, clip, rng)
    return found and replace(found, text=f"{found.text} Frame {number + 1}.")


def _lettered(rng: np.random.Generator) -> Listing:
    """The letter of each option, whatever is shown."""
    pools = [*COLORS], [*SHAPES], [*PLATES], [f"{color} {shape}" for color, shape in SEEN]
    pool = pools[int(rng.integers(len(pools)))]
    options = [pool[int(i)] for i in rng.permutation(len(pool))[: int(rng.integers(2, 5))]]
    lines = "\n".join(f"{letter}. {word}" for letter, word in zip(LETTERS, options, strict=False))
    found = listing("letters", dict(zip(options, LETTERS, strict=False)), rng)
    assert found is not None, "there are options"
    return replace(found, text=f"{lines}\n{found.text}")


def of_clip(clip: Clip, rng: np.random.Generator) -> Listing | None:
    """A list about a clip."""
    return _any_of(_OF_CLIP, clip, rng)


def of_several(scenes: Sequence[Scene], rng: np.random.Generator) -> Listing | None:
    """Which of several pictures shows what only one of them shows."""
    names = [names_of(scene) for scene in scenes]
    number = Counter(name for shown in names for name in shown)
    which = {
        name: word
        for word, shown in zip(ORDINALS, names, strict=True)
        for name in sorted(shown)
        if number[name] == 1
    }
    return listing("images", which, rng)


def _any_of(
    makers: Mapping[str, Callable[[Shown], Entries]], shown: Shown, rng: np.random.Generator
) -> Listing | None:
    topics = [topic for topic in sorted(makers) for _ in range(OFTEN.get(topic, 1))]
    topic = topics[int(rng.integers(len(topics)))]
    asked = makers[topic](shown)
    # of what is there, as much as of what is not
    there = [key for key, answer in asked.items() if answer not in (NONE, "No", "0")]
    absent = [key for key in asked if key not in there]
    absent = [absent[int(i)] for i in rng.permutation(len(absent))[: max(1, len(there))]]
    return listing(topic, {key: asked[key] for key in (*there, *absent)}, rng)


def _single(pairs: Iterable[tuple[str, str]], pool: Iterable[str]) -> Entries:
    """What goes with each word that occurs once or never."""
    pairs = list(pairs)
    number, found = Counter(key for key, _ in pairs), dict(pairs)
    return {key: found.get(key, NONE) for key in pool if number[key] < 2}


def _shapes(scene: Scene) -> Entries:
    return _single(((thing.color, thing.shape) for thing in scene.things), COLORS)


def _colors(scene: Scene) -> Entries:
    return _single(((thing.shape, thing.color) for thing in scene.things), SHAPES)


def _numbers(scene: Scene) -> Entries:
    number = Counter(word for thing in scene.things for word in (thing.color, thing.shape))
    return {word: str(number[word]) for word in (*COLORS, *SHAPES) if number[word] <= MOST}


def _there(scene: Scene) -> Entries:
    """Of names that are not there, those of which both words are, apart, if there are any: the
    others are told from one word.
    """
    shown = {thing.name for thing in scene.things}
    words = {word for thing in scene.things for word in (thing.color, thing.shape)}
    absent = [f"{color} {shape}" for color, shape in SEEN if f"{color} {shape}" not in shown]
    apart = [name for name in absent if words.issuperset(name.split())]
    return dict.fromkeys(sorted(shown), "Yes") | dict.fromkeys(apart or absent, "No")


def _texts(scene: Scene) -> Entries:
    return _single(((sign.color, sign.text) for sign in scene.signs), PLATES)


def _boxes(scene: Scene) -> dict[str, tuple[float, float, float, float]]:
    """In shares of the picture, of what has a name of its own."""
    boxes = {thing.name: box_of(scene, thing) for thing in _single_things(scene)}
    boxes |= {f"{sign.color} sign": sign.box for sign in scene.signs}
    width, height = scene.size
    return {
        name: (left / width, top / height, right / width, bottom / height)
        for name, (left, top, right, bottom) in boxes.items()
    }


def _single_things(scene: Scene) -> list[Thing]:
    number = Counter(thing.name for thing in scene.things)
    return [thing for thing in scene.things if number[thing.name] == 1]


def _columns(scene: Scene) -> Entries:
    width = scene.size[0]
    return {thing.name: str(int(12 * thing.x / width)) for thing in _single_things(scene)}


def _rows(scene: Scene) -> Entries:
    height = scene.size[1]
    return {thing.name: str(int(12 * thing.y / height)) for thing in _single_things(scene)}


def _edge(edge: int) -> Callable[[Scene], Entries]:
    def asked(scene: Scene) -> Entries:
        return {
            name: str(min(99, max(0, round(100 * box[edge]))))
            for name, box in _boxes(scene).items()
        }

    return asked


def _relations(scene: Scene) -> Entries:
    found = {}
    for one in scene.things:
        for other in scene.things:
            if one is not other and (word := relation_of(one, other)) is not None:
                found[f"{one.name} {other.name}"] = word
    return found


def _order(clip: Clip) -> Entries:
    return {thing.name: str(i) for i, thing in enumerate(clip.arrivals, 1)}


def _times(clip: Clip) -> Entries:
    return {clip.blinker.name: str(clip.appearances), clip.still.name: "1"}


def _motion(clip: Clip) -> Entries:
    others = (clip.still, clip.blinker, *clip.arrivals)
    return {clip.mover.name: clip.direction} | {thing.name: NONE for thing in others}


def _at(frame: int) -> Callable[[Clip], Entries]:
    def asked(clip: Clip) -> Entries:
        shown = {thing.name for thing in clip.frames[frame].things}
        things = (clip.still, clip.mover, clip.blinker, *clip.arrivals)
        return {thing.name: "Yes" if thing.name in shown else "No" for thing in things}

    return asked


def _flashes(clip: Clip) -> Entries:
    return _single([(clip.sign.color, clip.sign.text)], PLATES)


_GRID: dict[str, Callable[[Scene], Entries]] = {"columns": _columns, "rows": _rows}
_EDGES: dict[str, Callable[[Scene], Entries]] = {
    "left": _edge(0),
    "top": _edge(1),
    "right": _edge(2),
    "bottom": _edge(3),
}
_OF_SCENE: dict[str, Callable[[Scene], Entries]] = {
    "shapes": _shapes,
    "colors": _colors,
    "numbers": _numbers,
    "there": _there,
    "texts": _texts,
    **_GRID,
}
_OF_PLACES: dict[str, Callable[[Scene], Entries]] = {**_EDGES, "relations": _relations}
_OF_CLIP: dict[str, Callable[[Clip], Entries]] = {
    "order": _order,
    "times": _times,
    "motion": _motion,
    "first": _at(0),
    "last": _at(-1),
    "flashes": _flashes,
}
HEADINGS = {
    "letters": "Letter of each option.",
    "shapes": "Shape of each color.",
    "colors": "Color of each shape.",
    "numbers": "How many of each.",
    "there": "Is each there?",
    "texts": "Text of each sign.",
    "columns": "Column of each object.",
    "rows": "Row of each object.",
    "left": "The left of each object.",
    "top": "The top of each object.",
    "right": "The right of each object.",
    "bottom": "The bottom of each object.",
    "relations": "Relation of each two.",
    "order": "Order of the new objects.",
    "times": "How many times is each there?",
    "motion": "Which way does each move?",
    "first": "In the first frame?",
    "last": "In the last frame?",
    "flashes": "Text of each sign.",
    "images": "Which image shows each?",
}
