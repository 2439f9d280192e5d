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
        rate: peak learning rate; it rises over ``warmup`` steps and falls along a cosine to 3 % of itself.
        decay: weight decay of matrices.
        first_seed: of the training pictures. Stages share none; dev and test pictures start at 40,000,000.
        fills: shares of the usual number of signs and things; batch ``i`` has share ``i mod len``.
    """

    steps: int
    pictures: int
    rate: float
    warmup: int
    decay: float
    first_seed: int
    fills: tuple[float, ...] = (1.0,)


MIX = {
    "existence": 0.16,
    "multiple_choice": 0.2,
    "reading": 0.16,
    "counting": 0.2,
    "format": 0.08,
    "open": 0.1,
    "letter": 0.05,
    "glyph": 0.05,
}


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is made.

    Attributes:
        width, layers, heads, inner: of the decoder.
        vision_width, vision_depth: of the tower.
        sizes: picture sizes; batch ``i`` has size ``i mod len``.
        small: sizes of the easy stage. It shows few things: where one token in 144 answers the question,
            the decoder takes very long to find out that it should look.
        questions: asked about each picture of a batch.
        text_tokens: room for the questions of one picture.
        mix: share of each ability and training aid (``open``, ``letter``, ``glyph``) among the questions.
        align: keep tokens near the words for what they show during the language stages.
        pair_every: in the joint stage each so-many-th batch shows its pictures two by two; 0: none does.
        fading: weight of the vision stage's loss at the start of the joint stage.
    """

    family: str
    width: int = 160
    layers: int = 5
    heads: int = 4
    inner: int = 448
    vision_width: int = 128
    vision_depth: int = 4
    sizes: tuple[Size, ...] = ((336, 336),)
    small: tuple[Size, ...] = ((224, 112), (224, 224))
    questions: int = 14
    text_tokens: int = 320
    mix: dict[str, float] = field(default_factory=lambda: dict(MIX))
    align: bool = True
    pair_every: int = 0
    fading: float = 0.2
    vision: Stage = field(default=Stage(2000, 12, 1.5e-3, 100, 0.05, 0))
    easy: Stage = field(default=Stage(1000, 8, 1.2e-3, 100, 0.02, 6_000_000))
    language: Stage = field(default=Stage(4500, 8, 5e-4, 50, 0.02, 8_000_000, fills=(0.4, 0.7, 1.0)))
    joint: Stage = field(default=Stage(800, 8, 6e-4, 100, 0.02, 16_000_000))

    def pictures_at(self, step: int) -> int:
        """Pictures in a conversation, at a step of the joint stage."""
        return 2 if self.pair_every and step % self.pair_every == self.pair_every - 1 else 1


_SPARSE = Stage(1000, 8, 1.2e-3, 100, 0.02, 6_000_000, fills=(0.3,))
RECIPES = {
    "qwen2_5_vl": Recipe("qwen2_5_vl", sizes=((336, 336),) * 7 + ((448, 336),)),
    "llava": Recipe("llava", vision_depth=5, small=((336, 336),), easy=_SPARSE),  # these towers have one size
    "internvl": Recipe("internvl", vision_depth=3, small=((336, 336),), easy=_SPARSE),
}
