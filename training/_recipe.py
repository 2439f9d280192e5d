"""The numbers of the training, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

Size = tuple[int, int]


@dataclass(frozen=True)
class Stage:
    """One stage of the training.

    Attributes:
        steps: optimizer steps.
        pictures: per step.
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


Mix = dict[str, float]
EARLY: Mix = {
    "existence": 0.14,
    "multiple_choice": 0.14,
    "reading": 0.1,
    "counting": 0.12,
    "format": 0.02,
    "one": 0.12,
    "open": 0.14,
    "letter": 0.14,
    "glyph": 0.08,
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
    "glyph": 0.05,
    "which": 0.07,
    "spelt": 0.05,
}
LATE: Mix = {
    "existence": 0.17,
    "multiple_choice": 0.28,
    "reading": 0.07,
    "counting": 0.2,
    "format": 0.05,
    "one": 0.04,
    "open": 0.03,
    "letter": 0.05,
    "glyph": 0.01,
    "which": 0.06,
    "spelt": 0.04,
}
LAST: Mix = {
    "existence": 0.13,
    "multiple_choice": 0.28,
    "reading": 0.14,
    "counting": 0.2,
    "format": 0.08,
    "one": 0.02,
    "open": 0.02,
    "letter": 0.05,
    "which": 0.04,
    "spelt": 0.04,
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
}


@dataclass(frozen=True)
class Language:
    """How the decoder that the three models share is trained, on sums of words in place of
    pictures.

    Attributes:
        stage: steps, rate, seeds.
        again: steps and peak rate of a second round, on whole scenes. After the first one alone
            options' letters and reading are not learnt.
        small: sizes of the scenes at first. They show few things: where one token in 144 answers
            the question, the decoder takes very long to find out that it should look.
        large: size at last.
        turn: share of the steps after which small scenes alternate with large ones; after twice
            that all are large.
        mixes: shares of abilities and aids among the questions, and the share of the first round's
            steps from which each holds; the one from 1 on is the second round's.
        forms: whose conversation form and positions of visual tokens step ``i`` has: ``i mod len``.
        briefs: share of questions in their shortest form, under each mix.
        questions: asked about each scene.
        noise: standard deviation of what is added to the ones and zeros that say what a token
            shows.
    """

    stage: Stage = field(default=Stage(5000, 8, 1.2e-3, 100, 0.02, 6_000_000))
    again: tuple[int, float] = (4000, 1.0e-3)
    small: tuple[Size, ...] = ((224, 112), (224, 224))
    large: Size = (336, 336)
    turn: float = 0.2
    forms: tuple[str, ...] = ("qwen2_5_vl", "internvl", "qwen2_5_vl", "llava")
    mixes: tuple[tuple[float, Mix], ...] = ((0.0, EARLY), (0.2, MIDDLE), (0.65, LATE), (1.0, LAST))
    briefs: tuple[float, ...] = (0.8, 0.3, 0.3, 0.3)
    questions: int = 24
    noise: float = 0.08


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is made.

    Attributes:
        width, layers, heads, inner: of the decoder.
        vision_width, vision_depth: of the tower.
        sizes: picture sizes; batch ``i`` has size ``i mod len``.
        questions: asked about each picture of a batch.
        text_tokens: room for the questions of one picture.
        pair_every: in the joint stage each so-many-th batch shows its pictures two by two; 0: none
            does.
        fading: weight of the vision stage's loss at the start of the joint stage.
        mix, brief: as in :class:`Language`, of the joint stage.
    """

    family: str
    width: int = 160
    layers: int = 5
    heads: int = 4
    inner: int = 448
    vision_width: int = 128
    vision_depth: int = 4
    sizes: tuple[Size, ...] = ((336, 336),)
    questions: int = 16
    text_tokens: int = 400
    pair_every: int = 0
    fading: float = 0.2
    vision: Stage = field(default=Stage(1600, 12, 1.5e-3, 100, 0.05, 0))
    mix: Mix = field(default_factory=lambda: dict(JOINT))
    brief: float = 0.2
    joint: Stage = field(default=Stage(600, 8, 4e-4, 50, 0.02, 16_000_000))

    def pictures_at(self, step: int) -> int:
        """Pictures in a conversation, at a step of the joint stage."""
        return 2 if self.pair_every and step % self.pair_every == self.pair_every - 1 else 1


RECIPES = {
    "qwen2_5_vl": Recipe("qwen2_5_vl", sizes=((336, 336),) * 7 + ((448, 336),)),
    "llava": Recipe("llava", vision_depth=5, joint=Stage(1100, 8, 4e-4, 50, 0.02, 16_000_000)),
    # the place of a character on its sign, which a tower with learnt positions is slow to see,
    # needs the first loss for longer
    "internvl": Recipe(
        "internvl", vision_depth=3, fading=8.0, joint=Stage(1300, 8, 4e-4, 50, 0.02, 16_000_000)
    ),
}
