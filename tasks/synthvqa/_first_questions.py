"""First edition of the questions, in the wording that the first tiny checkpoint was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unibench.tasks.synthvqa._first_scene import COLORS, GROUNDS, SHAPES, Scene

LETTERS = "ABCD"
PLURALS = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}


@dataclass(frozen=True)
class Question:
    """A question with the form of its answer in the last line, and the answer."""

    text: str
    answer: str


def ask(ability: str, scene: Scene, rng: np.random.Generator) -> Question | None:
    """A question of an ability about a scene, or None where the scene has nothing to ask about."""
    return _MAKERS[ability](scene, rng)


def _existence(scene: Scene, rng: np.random.Generator) -> Question:
    """Half are true; half of the false ones share the colour or the shape of something that is there."""
    there = {(thing.color, thing.shape) for thing in scene.things}
    colors, shapes = {color for color, _ in there}, {shape for _, shape in there}
    absent = [(color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in there]
    near = [kind for kind in absent if kind[0] in colors or kind[1] in shapes]
    far = [kind for kind in absent if kind not in near]
    true = rng.random() < 0.5
    pool = sorted(there) if true else near if not far or rng.random() < 0.5 else far
    color, shape = pool[int(rng.integers(len(pool)))]
    return Question(f"Is there a {color} {shape} in the image?\nAnswer yes or no.", "yes" if true else "no")


def _background(scene: Scene, rng: np.random.Generator) -> Question:
    if rng.random() < 0.5:
        return Question("What color is the background?\nAnswer with one word.", scene.ground)
    true = rng.random() < 0.5
    named = scene.ground if true else str(rng.choice([name for name in GROUNDS if name != scene.ground]))
    return Question(f"Is the background {named}?\nAnswer yes or no.", "yes" if true else "no")


def _reading(scene: Scene, rng: np.random.Generator) -> Question | None:
    return Question("What is written on the sign?\nAnswer with the text.", scene.text) if scene.text else None


def _counting(scene: Scene, rng: np.random.Generator) -> Question:
    stem, number = _how_many(scene, rng)
    return Question(f"{stem}\nAnswer with a number.", str(number))


def _multiple_choice(scene: Scene, rng: np.random.Generator) -> Question:
    attribute = _attribute(scene, rng) if rng.random() < 0.7 else None
    if attribute is not None:
        stem, right, pool = attribute
        return _with_options(rng, stem, right, [name for name in pool if name != right])
    stem, number = _how_many(scene, rng)
    least = max(0, number - int(rng.integers(4)))
    return _with_options(rng, stem, str(number), [str(n) for n in range(least, least + 4) if n != number])


def _with_options(rng: np.random.Generator, stem: str, right: str, wrong: Sequence[str]) -> Question:
    options = [str(option) for option in rng.permutation(list(wrong))[:3]]
    place = int(rng.integers(4))
    options.insert(place, right)
    lines = "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))
    return Question(f"{stem}{lines}\nAnswer with the letter.", LETTERS[place])


def _attribute(scene: Scene, rng: np.random.Generator) -> tuple[str, str, Sequence[str]] | None:
    """The shape of the only thing of a colour, or the colour of the only one of a shape."""
    colors, shapes = Counter(t.color for t in scene.things), Counter(t.shape for t in scene.things)
    asked = [(f"What color is the {thing.shape}?", thing.color, tuple(COLORS)) for thing in scene.things if shapes[thing.shape] == 1] + [
        (f"What shape is the {thing.color} object?", thing.shape, SHAPES) for thing in scene.things if colors[thing.color] == 1
    ]
    return asked[int(rng.integers(len(asked)))] if asked else None


def _how_many(scene: Scene, rng: np.random.Generator) -> tuple[str, int]:
    """A count question; the true counts are spread as evenly as the scene allows."""
    if rng.random() < 0.25:
        return "How many objects are there?", len(scene.things)
    if rng.random() < 0.55:
        counts = Counter(thing.color for thing in scene.things)
        stems = {f"How many {color} objects are there?": counts[color] for color in COLORS}
    else:
        counts = Counter(thing.shape for thing in scene.things)
        stems = {f"How many {PLURALS[shape]} are there?": counts[shape] for shape in SHAPES}
    values = sorted(set(stems.values()))
    weights = np.array([1.0 if value else 0.3 for value in values])
    value = int(rng.choice(values, p=weights / weights.sum()))
    return str(rng.choice([stem for stem, number in stems.items() if number == value])), value


_MAKERS: dict[str, Callable[[Scene, np.random.Generator], Question | None]] = {
    "existence": _existence,
    "multiple_choice": _multiple_choice,
    "reading": _reading,
    "counting": _counting,
    "background": _background,
}
ABILITIES = tuple(_MAKERS)
