"""The numbers of the training, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Size = tuple[int, int]
Kind = Literal["plain", "places", "several", "clip", "easy"]
"""What a conversation shows: a picture of synthvqa, one of synthscene, several small ones, a clip
of synthvideo, a picture of easy-VQA."""
StageName = Literal["vision", "joint", "video"]


@dataclass(frozen=True)
class Stage:
    """One stage of the training.

    Attributes:
        steps: optimizer steps.
        pictures: most conversations per step; see :func:`batch_of`.
        rate: peak learning rate; it rises over ``warmup`` steps and falls along a cosine to 3 % of
            itself.
        decay: weight decay of matrices.
        first_seed: of the training pictures. Stages share none; dev and test pictures start at
            40,000,000.
    """

    steps: int
    pictures: int
    rate: float
    warmup: int
    decay: float
    first_seed: int


def batch_of(stage: Stage, visual: int) -> int:
    """Conversations of a step: fewer where each has many visual tokens, at least two.

    >>> stage = Stage(steps=1, pictures=8, rate=1.0, warmup=1, decay=0.0, first_seed=0)
    >>> [batch_of(stage, visual) for visual in (144, 432, 1152)]
    [8, 7, 2]
    """
    return max(2, min(stage.pictures, 3072 // visual))


Mix = dict[str, float]
# a yes or a no has one token, and few of them were learnt late
EARLY: Mix = {
    "existence": 0.14,
    "multiple_choice": 0.06,
    "reading": 0.06,
    "counting": 0.08,
    "format": 0.02,
    "one": 0.2,
    "open": 0.12,
    "letter": 0.1,
    "glyph": 0.06,
    "listing": 0.2,
    "negated": 0.02,
}
MIDDLE: Mix = {
    "existence": 0.15,
    "multiple_choice": 0.2,
    "reading": 0.13,
    "counting": 0.14,
    "format": 0.05,
    "one": 0.03,
    "open": 0.06,
    "letter": 0.07,
    "glyph": 0.08,
    "listing": 0.12,
    "which": 0.07,
    "spelt": 0.05,
    "negated": 0.03,
}
LATE: Mix = {
    "existence": 0.15,
    "multiple_choice": 0.25,
    "reading": 0.12,
    "counting": 0.18,
    "format": 0.05,
    "one": 0.04,
    "open": 0.03,
    "letter": 0.05,
    "glyph": 0.06,
    "listing": 0.04,
    "which": 0.06,
    "spelt": 0.04,
    "negated": 0.02,
}
LAST: Mix = {
    "existence": 0.06,
    "multiple_choice": 0.12,
    "reading": 0.2,
    "counting": 0.15,
    "format": 0.07,
    "one": 0.01,
    "open": 0.01,
    "letter": 0.04,
    "glyph": 0.1,
    "which": 0.02,
    "spelt": 0.02,
    "negated": 0.02,
    "listing": 0.06,
    "places": 0.12,
}
JOINT: Mix = {
    "existence": 0.18,
    "multiple_choice": 0.26,
    "reading": 0.14,
    "counting": 0.2,
    "format": 0.08,
    "one": 0.02,
    "open": 0.04,
    "letter": 0.03,
    "which": 0.03,
    "spelt": 0.02,
    "negated": 0.02,
}
# of the other kinds; an answer of "where" has thirteen tokens
AIDED: dict[Kind, Mix] = {
    "places": {
        "where": 0.2,
        "relation": 0.2,
        "second_question": 0.2,
        "listing": 0.4,
    },
    "several": {"several_pictures": 0.8, "listing": 0.2},
    "clip": {
        "order": 0.16,
        "motion": 0.14,
        "repetition": 0.12,
        "flash": 0.1,
        "still": 0.12,
        "listing": 0.36,
    },
    "easy": {"easy": 1.0},
}
# the same where one attribute and names of two words are learnt, and places and times are not
PLACED: dict[Kind, Mix] = {
    "places": {
        "where": 0.2,
        "relation": 0.2,
        "second_question": 0.16,
        "listing": 0.2,
        "places": 0.24,
    },
    "several": {"several_pictures": 0.7, "listing": 0.3},
    "clip": {
        "order": 0.18,
        "motion": 0.14,
        "repetition": 0.12,
        "flash": 0.06,
        "still": 0.12,
        "listing": 0.14,
        "places": 0.24,
    },
    "easy": {"easy": 1.0},
}


@dataclass(frozen=True)
class Round:
    """A round of the language stage after the first, with whole scenes of all kinds.

    Attributes:
        name: of its checkpoint and log.
        steps, rate: optimizer steps and peak rate.
        kinds: of step ``i``: ``i mod len``; the length has no divisor in common with that of
            ``Language.forms``, so that all pairs come.
        mix, others: shares of abilities and aids among the questions about plain scenes, and about
            the other kinds.
        brief: share of questions in their shortest form.
    """

    name: str
    steps: int
    rate: float
    kinds: tuple[Kind, ...]
    mix: Mix
    others: dict[Kind, Mix]
    brief: float = 0.3


LATER = (
    # after the first round alone options' letters and reading are not learnt
    Round(
        "again",
        9000,
        1.0e-3,
        (
            *("plain", "places", "clip", "plain", "places", "clip", "plain", "several"),
            *("places", "clip", "plain"),
        ),
        LAST,
        PLACED,
    ),
)


@dataclass(frozen=True)
class Language:
    """How the decoder that the models share is trained, on sums of words in place of pictures.

    Attributes:
        stage: steps, rate, seeds of the first round.
        later: the rounds after it.
        small: sizes of the scenes at first. They show few things: where one token in 144 answers
            the question, the decoder takes very long to find out that it should look.
        large: size at last.
        turn: share of the steps after which small scenes alternate with large ones and the other
            kinds; after twice that there are no small ones any more.
        mixes: shares of abilities and aids among the questions about plain scenes, and the share of
            the first round's steps from which each holds.
        briefs: share of questions in their shortest form, under each mix.
        others: shares among the questions about other kinds.
        forms: whose conversation form and positions of visual tokens step ``i`` has: ``i mod len``.
        kinds: of the first round's step ``i``, where its scenes are not small: ``i mod len``, as in
            :class:`Round`.
        questions: asked about each scene.
        noise: standard deviation of what is added to the ones and zeros that say what a token
            shows.
    """

    stage: Stage = field(default=Stage(8000, 8, 1.2e-3, 100, 0.02, 6_000_000))
    later: tuple[Round, ...] = LATER
    small: tuple[Size, ...] = ((224, 112), (224, 224))
    large: Size = (336, 336)
    turn: float = 0.175
    mixes: tuple[tuple[float, Mix], ...] = ((0.0, EARLY), (0.175, MIDDLE), (0.6, LATE))
    briefs: tuple[float, ...] = (0.8, 0.3, 0.3)
    others: dict[Kind, Mix] = field(default_factory=lambda: dict(AIDED))
    forms: tuple[str, ...] = ("qwen2_5_vl", "internvl", "qwen3_vl", "llava")
    kinds: tuple[Kind, ...] = (
        *("plain", "places", "plain", "clip", "places", "several", "plain", "clip", "plain"),
    )
    questions: int = 24
    noise: float = 0.08

    def round_at(self, step: int) -> Round | None:
        """The later round that a step belongs to, counted through all rounds; None in the first."""
        start, found = self.stage.steps, None
        for part in self.later:
            if step >= start:
                found = part
            start += part.steps
        return found


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is made.

    Attributes:
        width, layers, heads, inner: of the decoder.
        vision_width, vision_depth: of the tower.
        sizes: sizes of plain pictures; batch ``i`` has size ``i mod len``.
        questions: asked about each picture of a batch.
        text_tokens: room for the questions of one conversation.
        fading: weight of the vision stage's loss at the start of the joint stage.
        finding: weight of the loss that has attention find what a picture shows.
        kinds: of the steps of each stage: ``i mod len``.
        mix, brief: as in :class:`Language`, of the stages with answers.
        tune: steps of the language stage on this family's decoder alone, whose queries and keys
            are normalised where the shared decoder's are not.
        stages: of this family, in order.
    """

    family: str
    width: int = 160
    layers: int = 5
    heads: int = 5  # of 32 channels, which serving engines take
    inner: int = 448
    vision_width: int = 128
    vision_depth: int = 6
    sizes: tuple[Size, ...] = ((336, 336),)
    questions: int = 16
    text_tokens: int = 400
    fading: float = 0.2
    finding: float = 0.15
    kinds: dict[StageName, tuple[Kind, ...]] = field(
        default_factory=lambda: {
            "vision": ("plain", "places", "plain", "clip", "plain"),
            "joint": (
                *("plain", "places", "plain", "several", "plain", "easy", "plain"),
                *("places", "plain"),
            ),
            "video": ("clip", "plain", "clip", "places", "clip", "easy", "clip", "several"),
        }
    )
    vision: Stage = field(default=Stage(2000, 12, 1.5e-3, 100, 0.05, 0))
    mix: Mix = field(default_factory=lambda: dict(JOINT))
    brief: float = 0.2
    joint: Stage = field(default=Stage(1800, 8, 4e-4, 50, 0.02, 16_000_000))
    video: Stage | None = field(default=Stage(1200, 8, 3e-4, 50, 0.02, 22_000_000))
    tune: int = 0

    @property
    def stages(self) -> tuple[StageName, ...]:
        return ("vision", "joint") if self.video is None else ("vision", "joint", "video")

    def stage(self, name: StageName) -> Stage:
        """One of the stages that the family has."""
        found: Stage = getattr(self, name)
        return found

    def kind_at(self, name: StageName, step: int) -> Kind:
        """What a step of a stage shows; no clip to a family that reads none."""
        kind = self.kinds[name][step % len(self.kinds[name])]
        return "places" if kind == "clip" and self.video is None else kind


RECIPES = {
    "qwen2_5_vl": Recipe("qwen2_5_vl", sizes=((336, 336),) * 7 + ((448, 336),)),
    "llava": Recipe("llava", video=None, joint=Stage(2200, 8, 4e-4, 50, 0.02, 16_000_000)),
    # the place of a character on its sign, which a tower with learnt positions is slow to see,
    # needs the first loss for longer
    "internvl": Recipe("internvl", fading=8.0, joint=Stage(2200, 8, 4e-4, 50, 0.02, 16_000_000)),
    "qwen3_vl": Recipe("qwen3_vl", vision_depth=5, fading=1.0, tune=2500),
}
