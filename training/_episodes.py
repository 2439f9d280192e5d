"""What a conversation of the training shows, and what may be asked about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL.Image import Image

from training import _listings
from training._aids import AIDS, aid
from training._prompt import Sight
from training._recipe import Kind, Size
from unibench.tasks import easyvqa, synthscene, synthvideo
from unibench.tasks.synthvqa._draw import draw
from unibench.tasks.synthvqa._frames import draw_frames
from unibench.tasks.synthvqa._questions import ABILITIES as PLAIN
from unibench.tasks.synthvqa._questions import Question
from unibench.tasks.synthvqa._questions import ask as ask_plain
from unibench.tasks.synthvqa._scene import Scene, make_scene

FRAMES = 8  # of a clip
# ask for a list, for training only: of anything, and of where things and characters are
LISTING, PLACES = "listing", "places"
SIGHTS: dict[Kind, Sight] = {
    "plain": Sight(),
    "places": Sight(),
    "several": Sight(pictures=3),
    "clip": Sight(frames=FRAMES),
    "easy": Sight(),
}
ABILITIES: dict[Kind, tuple[str, ...]] = {
    "plain": PLAIN,
    "places": ("where", "relation", "second_question"),
    "several": ("several_pictures",),
    "clip": synthvideo.ABILITIES,
    "easy": ("easy",),
}
Asking = Callable[[str, np.random.Generator, bool, float], Question | None]


@dataclass(frozen=True)
class Episode:
    """One conversation.

    Attributes:
        kind: of what it shows.
        seed: of what it shows.
        scenes: the pictures or frames; none where nothing here knows what is in them.
        ask: a question of an ability or aid, from a generator, varied or not, and the share of
            shortest forms.
        draw: the pictures or frames.
    """

    kind: Kind
    seed: int
    scenes: tuple[Scene, ...]
    ask: Asking
    draw: Callable[[], Sequence[Image]]


def episode(kind: Kind, seed: int, size: Size = (336, 336)) -> Episode:
    """The episode of a seed, the same in every process; ``size`` is that of a plain picture."""
    makers = {
        "places": _places,
        "several": _several,
        "clip": _clip,
        "easy": _easy,
    }
    return makers[kind](seed) if kind in makers else _plain(seed, size)


def _plain(seed: int, size: Size) -> Episode:
    scene = make_scene(seed, size)

    def ask(name: str, rng: np.random.Generator, varied: bool, brief: float) -> Question | None:
        if name == LISTING:
            return _listings.of_scene(scene, rng, places=False)
        if name == PLACES:
            return _listings.places_of_scene(scene, rng, places=False)
        if name in AIDS:
            return aid(name, scene, rng, brief)
        return ask_plain(name, scene, rng, varied=varied, brief=brief)

    return Episode("plain", seed, (scene,), ask, lambda: (draw(scene),))


def _places(seed: int) -> Episode:
    # the several pictures of the round are not asked about here, and so are not made
    shown = synthscene.Round(synthscene.make_scene(seed), ())

    def ask(name: str, rng: np.random.Generator, varied: bool, brief: float) -> Question | None:
        if name == LISTING:
            return _listings.of_scene(shown.scene, rng, places=True)
        if name == PLACES:
            return _listings.places_of_scene(shown.scene, rng, places=True)
        return synthscene.ask(name, shown, rng, varied=varied, brief=brief)

    return Episode("places", seed, (shown.scene,), ask, lambda: draw_frames([shown.scene]))


def _several(seed: int) -> Episode:
    shown = synthscene.make_round(seed)

    def ask(name: str, rng: np.random.Generator, varied: bool, brief: float) -> Question | None:
        if name == LISTING:
            return _listings.of_several(shown.several, rng)
        return synthscene.ask(name, shown, rng, varied=varied, brief=brief)

    return Episode("several", seed, shown.several, ask, lambda: [draw(s) for s in shown.several])


def _clip(seed: int) -> Episode:
    clip = synthvideo.make_clip(seed, FRAMES)

    def ask(name: str, rng: np.random.Generator, varied: bool, brief: float) -> Question | None:
        if name == LISTING:
            return _listings.of_clip(clip, rng)
        if name == PLACES:
            return _listings.places_of_clip(clip, rng)
        return synthvideo.ask(name, clip, rng, varied=varied, brief=brief)

    return Episode("clip", seed, clip.frames, ask, lambda: draw_frames(clip.frames))


def _easy(seed: int) -> Episode:
    """A picture of easy-VQA's training split, in an order of its own."""
    files, asked = _easy_pictures(), _easy_questions()
    number = int(np.random.default_rng([101, seed]).integers(len(files)))

    def ask(name: str, rng: np.random.Generator, varied: bool, brief: float) -> Question | None:
        entry = asked[number][int(rng.integers(len(asked[number])))]
        return Question(entry.text, entry.answer, entry.ability, 0.5)

    return Episode("easy", seed, (), ask, lambda: (easyvqa.enlarged(files[number]),))


@cache
def _easy_pictures() -> dict[int, str]:
    return easyvqa.picture_files("train")


@cache
def _easy_questions() -> dict[int, list[easyvqa.Entry]]:
    found: dict[int, list[easyvqa.Entry]] = {number: [] for number in _easy_pictures()}
    for entry in easyvqa.entries("train"):
        found[entry.picture].append(entry)
    return {number: entries for number, entries in found.items() if entries}
