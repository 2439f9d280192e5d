"""Questions for training only: parts of harder ones, which are then learnt sooner."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unibench.tasks.synthvqa._palette import COLORS, GROUNDS, PLATES, SHAPES
from unibench.tasks.synthvqa._prompts import LETTERS, Voice
from unibench.tasks.synthvqa._questions import Asker, Question, article, attribute
from unibench.tasks.synthvqa._scene import Scene

NTH = ("first", "second", "third", "fourth", "fifth", "sixth")  # character of a sign
# the sentences of easy-VQA, whose pictures show one shape
EASY = (
    *("is there a {}?", "is there a {} in the image?", "does the image contain a {}?"),
    *("is a {} present?", "is there not a {}?", "is there not a {} in the image?"),
    *("does the image not contain a {}?", "is no {} present?"),
    *("what color is the {}?", "what is the color of the {}?", "what is the {} shape?"),
    *("what shape is in the image?", "what shape does the image contain?"),
    *("what shape is present?", "circle rectangle triangle"),
    *("red green blue yellow black gray brown teal", "yes no"),
)


def aid(name: str, scene: Scene, rng: np.random.Generator, brief: float = 0.0) -> Question | None:
    return AIDS[name](Asker(scene, rng, Voice(rng, True, brief)))


def _presence(a: Asker) -> tuple[list[str], list[str]]:
    """Nouns of one attribute that are in the picture, and that are not."""
    kinds = (
        (
            [f"{color} object" for color in COLORS],
            {f"{thing.color} object" for thing in a.scene.things},
        ),
        (list(SHAPES), {thing.shape for thing in a.scene.things}),
        ([f"{color} sign" for color in PLATES], {f"{sign.color} sign" for sign in a.scene.signs}),
    )
    pool, there = kinds[int(a.rng.choice(3, p=(0.4, 0.4, 0.2)))]
    return sorted(there), [noun for noun in pool if noun not in there]


def _one(a: Asker) -> Question:
    """Existence by one attribute: a colour, a shape or a sign."""
    there, absent = _presence(a)
    true = not absent or a.rng.random() < 0.5
    asked = a.one_of(there if true else absent)
    return Question(
        a.voice.put("yes_no", a.voice.stem("exists", article(asked))),
        "Yes" if true else "No",
        "one",
        0.5,
    )


def _open(a: Asker) -> Question | None:
    """An attribute without options."""
    if a.rng.random() < 0.15:
        return Question(a.voice.put("open", a.voice.stem("ground")), a.scene.ground, "ground", 0.0)
    found = attribute(a)
    return (
        None if found is None else Question(a.voice.put("open", found[0]), found[1], found[3], 0.0)
    )


def _letter(a: Asker) -> Question:
    """Finding the letter of an option; the picture is not needed."""
    pools = (tuple(COLORS), SHAPES, tuple(GROUNDS), tuple(PLATES), tuple("0123456"))
    pool = pools[int(a.rng.integers(len(pools)))]
    options = [pool[int(i)] for i in a.rng.permutation(len(pool))[: int(a.rng.integers(2, 6))]]
    place = int(a.rng.integers(len(options)))
    return Question(
        a.voice.choose(f"Which letter is {options[place]}?", options), LETTERS[place], "letter", 0.0
    )


def _glyph(a: Asker) -> Question:
    """One character of a sign."""
    sign = a.scene.signs[int(a.rng.integers(len(a.scene.signs)))]
    place = int(a.rng.integers(len(sign.text)))
    return Question(
        a.voice.put("open", f"What is the {NTH[place]} character on the {sign.color} sign?"),
        sign.text[place],
        "glyph",
        0.0,
    )


def _which(a: Asker) -> Question:
    """Which option is in the picture, where one attribute decides."""
    right, wrong = _presence(a)
    if not wrong:
        return _letter(a)
    options = [wrong[int(i)] for i in a.rng.permutation(len(wrong))[:3]]
    place = int(a.rng.integers(len(options) + 1))
    options.insert(place, a.one_of(right))
    return Question(a.voice.choose(a.voice.stem("present"), options), LETTERS[place], "which", 0.0)


def _spelt(a: Asker) -> Question | None:
    """An attribute in words and then as a letter, which is easier to find once the word is said."""
    found = attribute(a)
    if found is None:
        return None
    stem, right, pool, topic = found
    options = [word for word in pool if word != right]
    options = [
        options[int(i)] for i in a.rng.permutation(len(options))[: int(a.rng.integers(1, 4))]
    ]
    place = int(a.rng.integers(len(options) + 1))
    options.insert(place, right)
    lines = "\n".join(
        f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)
    )
    text = f"{stem}\n{lines}\nAnswer with a word and the option's letter."
    return Question(text, f"{right}{LETTERS[place]}", topic, 0.0)


def _negated(a: Asker) -> Question:
    """Existence by one attribute in the sentences of easy-VQA, half of which deny."""
    there, absent = _presence(a)
    shown = not absent or a.rng.random() < 0.5
    asked = a.one_of(there if shown else absent).replace("object", "shape")
    stem = EASY[int(a.rng.integers(8))].format(asked)
    denied = " not " in stem or " no " in stem
    return Question(stem, "no" if shown == denied else "yes", "negated", 0.5)


AIDS: dict[str, Callable[[Asker], Question | None]] = {
    "one": _one,
    "open": _open,
    "letter": _letter,
    "glyph": _glyph,
    "which": _which,
    "spelt": _spelt,
    "negated": _negated,
}
