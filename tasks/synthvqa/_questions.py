"""Questions about a scene, by ability, with answers that follow from the scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unibench.tasks.synthvqa._palette import COLORS, HELD_OUT, PLATES, PLURALS, SEEN, SHAPES
from unibench.tasks.synthvqa._prompts import LETTERS, Voice
from unibench.tasks.synthvqa._scene import Scene

MOST = 3  # most things that a question counts; tiny models mix up larger numbers


@dataclass(frozen=True)
class Question:
    """A question.

    Attributes:
        text: all that the user says.
        answer: the one right answer.
        topic: finer than the ability, for example ``"color"``.
        chance: accuracy of a guess that knows the form of the answer.
    """

    text: str
    answer: str
    topic: str
    chance: float


@dataclass(frozen=True)
class Asker:
    """What a maker of questions draws from.

    Attributes:
        scene: what the picture shows.
        rng: decides what is asked.
        voice: decides how.
        held_out: ask about the pairs that are kept from training wherever one is shown.
    """

    scene: Scene
    rng: np.random.Generator
    voice: Voice
    held_out: bool = False

    def one_of(self, pool: Sequence[str]) -> str:
        return pool[int(self.rng.integers(len(pool)))]

    def topic(self, weights: dict[str, float]) -> str:
        shares = np.array(list(weights.values()))
        return str(self.rng.choice(list(weights), p=shares / shares.sum()))


def ask(
    ability: str,
    scene: Scene,
    rng: np.random.Generator,
    *,
    varied: bool = False,
    held_out: bool = False,
    brief: float = 0.0,
) -> Question | None:
    """A question of an ability about a scene, or None where the scene has nothing to ask about."""
    return _MAKERS[ability](Asker(scene, rng, Voice(rng, varied, brief), held_out))


def _existence(a: Asker) -> Question:
    """Half are true. Half of the false ones name a colour and a shape that are both there, apart
    (adversarial).
    """
    true = a.rng.random() < 0.5
    shown = [sign.color for sign in a.scene.signs]
    plates = shown if true else [color for color in PLATES if color not in shown]
    if plates and not a.held_out and a.rng.random() < 0.15:
        asked, topic = a.one_of(plates) + " sign", "sign"
    else:
        asked, topic = _pair(a, true)
    text = a.voice.put("yes_no", a.voice.stem("exists", article(asked)))
    return Question(text, "Yes" if true else "No", topic, 0.5)


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _pair(a: Asker, true: bool) -> tuple[str, str]:
    """Colour and shape to ask for, and what kind of pair it is."""
    there = sorted({(thing.color, thing.shape) for thing in a.scene.things})
    if true:
        pool = [pair for pair in there if pair in HELD_OUT] if a.held_out else there
        return a.one_of([" ".join(pair) for pair in pool]), "shown"
    colors, shapes = {color for color, _ in there}, {shape for _, shape in there}
    kinds = HELD_OUT if a.held_out else SEEN
    near = [f"{c} {s}" for c, s in kinds if (c, s) not in there and c in colors and s in shapes]
    far = [
        f"{c} {s}" for c, s in kinds if (c, s) not in there and not (c in colors and s in shapes)
    ]
    adversarial = bool(near) and (not far or a.rng.random() < 0.5)
    return a.one_of(near if adversarial else far), "adversarial" if adversarial else "random"


def attribute(a: Asker) -> tuple[str, str, tuple[str, ...], str] | None:
    """Stem, answer, all possible answers and topic: the colour or the shape of a thing that is
    named by the other.
    """
    shapes, colors = (
        Counter(t.shape for t in a.scene.things),
        Counter(t.color for t in a.scene.things),
    )
    by_shape = [thing for thing in a.scene.things if shapes[thing.shape] == 1]
    by_color = [thing for thing in a.scene.things if colors[thing.color] == 1]
    if not by_shape and not by_color:
        return None
    if by_shape and (not by_color or a.rng.random() < 0.5):
        thing = by_shape[int(a.rng.integers(len(by_shape)))]
        return a.voice.stem("color", thing.shape), thing.color, tuple(COLORS), "color"
    thing = by_color[int(a.rng.integers(len(by_color)))]
    return a.voice.stem("shape", thing.color), thing.shape, SHAPES, "shape"


def _multiple_choice(a: Asker) -> Question | None:
    if a.topic({"attribute": 0.7, "present": 0.3}) == "attribute":
        found = attribute(a)
        return None if found is None else _options(a, *found)
    there = sorted({(thing.color, thing.shape) for thing in a.scene.things})
    absent = [" ".join(pair) for pair in SEEN if pair not in there]
    right = a.one_of([" ".join(pair) for pair in there if pair in SEEN] or [""])
    return (
        _options(a, a.voice.stem("present"), right, (right, *absent), "present") if right else None
    )


def _options(a: Asker, stem: str, right: str, pool: Sequence[str], topic: str) -> Question:
    """The right option at an even place among wrong ones; ScienceQA's number varies, so training's
    does.
    """
    number = int(a.rng.choice([2, 3, 5])) if a.voice.varied and a.rng.random() < 0.25 else 4
    wrong = [option for option in pool if option != right]
    options = [wrong[int(i)] for i in a.rng.permutation(len(wrong))[: number - 1]]
    place = int(a.rng.integers(number))
    options.insert(place, right)
    return Question(a.voice.choose(stem, options), LETTERS[place], topic, 1 / number)


def _reading(a: Asker) -> Question:
    sign = a.scene.signs[int(a.rng.integers(len(a.scene.signs)))]
    return Question(
        a.voice.put("open", a.voice.stem("reading", sign.color)),
        sign.text,
        str(len(sign.text)),
        0.0,
    )


def _counts(a: Asker, kind: str) -> dict[str, int]:
    """How often each colour or shape is shown, by the words that name its things."""
    if kind == "sign":
        return {"signs": len(a.scene.signs)}
    if kind == "color":
        shown = Counter(thing.color for thing in a.scene.things)
        return {f"{color} objects": shown[color] for color in COLORS}
    shown = Counter(thing.shape for thing in a.scene.things)
    return {PLURALS[shape]: shown[shape] for shape in SHAPES}


def _how_many(
    a: Asker, kinds: dict[str, float], least: int = 0, most: int = MOST
) -> tuple[str, int, str]:
    """Stem, number and noun. Numbers come evenly as far as the scene allows; zero is rarer."""
    counts = {
        noun: number
        for noun, number in _counts(a, a.topic(kinds)).items()
        if least <= number <= most
    }
    if not counts:
        return _how_many(a, {"color": 0.5, "shape": 0.5}, least, most)
    values = sorted(set(counts.values()))
    weights = np.array([1.0 if value else 0.4 for value in values])
    value = int(a.rng.choice(values, p=weights / weights.sum()))
    noun = a.one_of([noun for noun, number in counts.items() if number == value])
    return a.voice.stem("count", noun), value, noun


def _counting(a: Asker) -> Question:
    topic = a.topic({"count": 0.7, "sum": 0.1, "less": 0.1, "more": 0.1})
    kinds = {"color": 0.45, "shape": 0.45, "sign": 0.1}
    some = any(
        1 <= shown <= MOST for kind in ("color", "shape") for shown in _counts(a, kind).values()
    )
    few = [
        (noun, shown)
        for noun, shown in _counts(a, a.one_of(("color", "shape"))).items()
        if shown <= 2
    ]
    if topic == "sum" and len(few) > 1:
        (first, ones), (second, others) = (few[int(i)] for i in a.rng.permutation(len(few))[:2])
        stem, number = a.voice.stem("sum", first.removesuffix(" objects"), second), ones + others
    elif topic == "less" and some:
        _, shown, noun = _how_many(a, kinds, least=1)
        taken = int(a.rng.integers(1, min(shown, 2) + 1))
        stem, number = a.voice.stem("less", str(taken), noun, noun), shown - taken
    elif topic == "more":
        _, shown, noun = _how_many(a, kinds)
        stem, number = a.voice.stem("more", "1", noun, noun), shown + 1
    else:
        topic, (stem, number, _) = "count", _how_many(a, kinds)
    return Question(a.voice.put("integer", stem), str(number), topic, 0.3)


RULES: dict[str, tuple[str, Callable[[str], str]]] = {
    "capitals": ("Write the answer in capital letters.", str.upper),
    "twice": ("Write the answer twice.", lambda answer: f"{answer} {answer}"),
    "exclaim": ("End the answer with an exclamation mark.", lambda answer: f"{answer}!"),
    "brackets": ("Put the answer in brackets.", lambda answer: f"({answer})"),
    "prefix": ("Begin with the word Answer and a colon.", lambda answer: f"Answer: {answer}"),
    "dashes": ("Put a dash between the characters.", "-".join),
}


def _format(a: Asker) -> Question | None:
    """An answer in a form that a rule asks for; it counts only if both are right."""
    rule = a.one_of(tuple(RULES))
    if rule == "dashes":
        short = [sign for sign in a.scene.signs if len(sign.text) <= 4]
        if not short:
            return None
        sign = short[int(a.rng.integers(len(short)))]
        stem, answer, chance = a.voice.stem("reading", sign.color), sign.text, 0.0
    else:
        found = attribute(a)
        if found is None:
            return None
        stem, answer, chance = found[0], found[1], 1 / len(found[2])
    instruction, apply = RULES[rule]
    return Question(a.voice.put("format", f"{stem}\n{instruction}"), apply(answer), rule, chance)


_MAKERS: dict[str, Callable[[Asker], Question | None]] = {
    "existence": _existence,
    "multiple_choice": _multiple_choice,
    "reading": _reading,
    "counting": _counting,
    "format": _format,
}
ABILITIES = tuple(_MAKERS)
