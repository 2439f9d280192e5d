"""How answers to questions of one's own are scored, each from 0 to 1."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from unibench.errors import UsageError, nearest, unknown
from unibench.registry.importing import import_part, place_of

Scorer = Callable[[str, Sequence[str]], float]  # of an answer, with those that are accepted
LETTERS = "ABCDEFGHIJKLMNOP"
# "B", "(b)", "B."; or "B: blue"; or a sentence that states one
ALONE = re.compile(r"^\W*([A-Pa-p])\W*$|^\W*([A-P])[).:]\s")
STATED = re.compile(
    r"(?i:answer|option|choice)\s*(?i:is|would be)?\s*:?\s*[\"'(*]*([A-P])\b(?!')"
)  # in capitals: "the answer is a cat" names none
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
TOLERANCE = 0.05  # of ChartQA's relaxed accuracy
LEAST_SIMILARITY = 0.5  # of ANLS: what is less alike counts as another answer


def comparable(text: str) -> str:
    """A text without what does not make another answer: case, outer space, the Unicode form.

    >>> comparable("Stra\\u00dfe ") == comparable("STRASSE")
    True
    """
    return unicodedata.normalize("NFC", text.strip().casefold())


def exact(answer: str, accepted: Sequence[str]) -> float:
    """1 where the whole answer is an accepted one, whatever the case and the Unicode form."""
    return float(comparable(answer) in map(comparable, accepted))


def contains(answer: str, accepted: Sequence[str]) -> float:
    """1 where an accepted answer occurs in the answer, as whole words.

    >>> contains("It is a red car.", ["red car"]), contains("It is bored.", ["red"])
    (1.0, 0.0)
    """
    text = comparable(answer)
    words = [re.escape(comparable(one)) for one in accepted]
    return float(any(re.search(rf"(?<!\w){word}(?!\w)", text) for word in words))


def choice(answer: str, accepted: Sequence[str]) -> float:
    """1 where the option that the answer names is an accepted one: by its letter, alone or as "the
    answer is B"; or by its text.

    >>> choice("(B) blue", ["B"]), choice("The answer is C.", ["B"]), choice("A cat", ["B"])
    (1.0, 0.0, 0.0)
    """
    if exact(answer, accepted):
        return 1.0
    letter = _letter(answer)
    return float(letter is not None and letter in {one.strip().upper() for one in accepted})


def _letter(answer: str) -> str | None:
    """The option that an answer names by its letter; None where it names none, or several."""
    text = unicodedata.normalize("NFKC", answer.strip())
    if found := ALONE.match(text):
        return str(found[1] or found[2]).upper()
    letters = set(STATED.findall(text))
    return letters.pop() if len(letters) == 1 else None


def anls(answer: str, accepted: Sequence[str]) -> float:
    """One minus the normalised edit distance to the nearest accepted answer; 0 below one half.
    (Biten et al., Scene Text Visual Question Answering, 2019.)

    >>> anls("kitten", ["mitten"]), anls("dog", ["mitten"])
    (0.8333333333333334, 0.0)
    """
    best = max(_similarity(comparable(answer), comparable(one)) for one in accepted)
    return best if best >= LEAST_SIMILARITY else 0.0


def _similarity(one: str, other: str) -> float:
    longest = max(len(one), len(other))
    return 1 - _distance(one, other) / longest if longest else 1.0


def _distance(one: str, other: str) -> int:
    """Levenshtein's distance."""
    before = list(range(len(other) + 1))
    for row, sign in enumerate(one, 1):
        line = [row]
        for column, against in enumerate(other, 1):
            changed = before[column - 1] + (sign != against)
            line.append(min(changed, before[column] + 1, line[-1] + 1))
        before = line
    return before[-1]


def relaxed(answer: str, accepted: Sequence[str]) -> float:
    """1 where the answer is a number within 5 % of an accepted one, or equal to an accepted text.
    (Relaxed accuracy: Masry et al., ChartQA, 2022.)

    >>> relaxed("10.4", ["10"]), relaxed("1,050", ["1000"]), relaxed("12 %", ["10%"])
    (1.0, 1.0, 0.0)
    """
    if exact(answer, accepted):
        return 1.0
    value = _value(answer)
    for one in accepted:
        wanted = _value(one)
        if value is None or wanted is None:
            continue
        # a little more, since 1050 against 1000 is within, whatever the last digit
        if abs(value - wanted) <= (TOLERANCE + 1e-9) * abs(wanted):
            return 1.0
    return 0.0


def _value(text: str) -> float | None:
    """The number that a text is, per cent as a share."""
    plain = text.strip().rstrip(".").replace("$", "").replace(",", "")
    per_cent = plain.endswith("%")
    if not NUMBER.fullmatch(plain.rstrip("% ")):
        return None
    value = float(plain.rstrip("% "))
    return value / 100 if per_cent else value


def iou(answer: str, accepted: Sequence[str]) -> float:
    """Intersection over union of the answer's box with the best accepted one; boxes are the first
    four numbers: left, top, right, bottom.

    >>> iou("[0, 0, 10, 10]", ["[0, 0, 10, 5]"]), iou("none", ["[0, 0, 1, 1]"])
    (0.5, 0.0)
    """
    box = _box(answer)
    wanted = [found for one in accepted if (found := _box(one))]
    return max((_overlap(box, other) for other in wanted), default=0.0) if box else 0.0


def _box(text: str) -> tuple[float, float, float, float] | None:
    numbers = [float(one.replace(",", "")) for one in re.findall(r"-?\d+(?:\.\d+)?", text)][:4]
    if len(numbers) < 4:
        return None
    left, top, right, bottom = numbers
    return (left, top, right, bottom) if right >= left and bottom >= top else None


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0


SCORERS: dict[str, Scorer] = {
    "exact": exact,
    "contains": contains,
    "choice": choice,
    "anls": anls,
    "relaxed": relaxed,
    "iou": iou,
}


def scorer(name: str) -> Scorer:
    """A scorer by name, or ``./mine.py:function`` of one's own.

    Raises:
        UsageError: there is none.
    """
    if name in SCORERS:
        return SCORERS[name]
    place, colon, function = name.rpartition(":")
    if not colon or not place.endswith(".py"):
        raise unknown("score", name, SCORERS, "your own: task.score=./mine.py:function")
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"task.score={name}: there is no such file")
    module = import_part(None, path)
    found = getattr(module, function, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UsageError(f"{path} defines no function {function!r}.{nearest(function, names)}")
    return _checked(found, path)


def _checked(function: Callable[[str, Sequence[str]], object], path: Path) -> Scorer:
    """A function of the user's own, held to what a score is."""

    def score(answer: str, accepted: Sequence[str]) -> float:
        try:
            value = function(answer, tuple(accepted))
        except Exception as error:
            raise UsageError(place_of(error, path)) from None
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
            raise UsageError(f"{path}: a score is {value!r}; a number from 0 to 1 is wanted")
        if not 0 <= value <= 1:
            raise UsageError(f"{path}: a score is {value!r}; it must lie from 0 to 1")
        return float(value)

    return score
