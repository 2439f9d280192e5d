"""A method asked about one picture that another engine has encoded."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unibench.errors import UsageError
from unibench.pruning.checking import indices
from unibench.pruning.context import StageContext
from unibench.pruning.layout import Item, Part, written
from unibench.pruning.stage import Selection
from unibench.serving.settings import Settings

REMEMBERED = 4096  # choices; each is a few hundred numbers
# Positions travel behind the features in their dtype; bfloat16 holds whole numbers up to 256, so
# that each is sent as two digits to this base.
DIGIT = 128
CHANNELS = 6  # two digits on each of three axes


@dataclass(frozen=True)
class Encoded:
    """One picture or video as the engine's tower made it.

    Attributes:
        features: ``[N, D]``; channels behind the language model's width travel along (DeepStack).
        width: of the language model.
        parts: the grids that the tokens lie in.
        question: ``[T, width]`` embeddings of the question, for methods that read it.
        picture: what tells it from other pictures and, for methods that read it or draw, from the
            same one under another question; empty where that is not known.
        sample: the name by which methods draw.
        video: whether its grids are the frames of a video.
    """

    features: Tensor
    width: int
    parts: tuple[Part, ...]
    question: Tensor | None = None
    picture: str = ""
    sample: str = ""
    video: bool = False

    @property
    def item(self) -> Item:
        """How its tokens lie."""
        return Item(0, len(self.features), self.parts, 0 if self.video else None)


class Pruner:
    """Chooses tokens of pictures from their features, as a :class:`unibench.pruning.Session` does
    with a budget for each picture.

    Args:
        settings: method, budget, seed.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.method = settings.build()
        (self._stage,) = self.method.stages(28)  # build() has refused all others
        self._chosen: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def keep(self, total: int) -> int:
        """How many of ``total`` tokens stay, which is known before the picture is encoded."""
        return kept_of(self.settings, self._stage.count, total)

    def __call__(self, given: Encoded) -> tuple[Tensor, Tensor]:
        """What stays of a picture.

        A picture that is encoded again, since the engine has dropped its features, keeps the tokens
        that it kept: its features may differ in their last bits from batch to batch, and cached
        keys of one choice must not meet embeddings of another.

        Returns:
            The kept features ``[keep, D]``, and their places ``[keep]``, rising.
        """
        remembered = self._remembered(given)
        if remembered is not None:
            self._trace(given, remembered, again=True)
            return given.features[remembered], remembered
        ctx = self._context(given)
        selection = self._stage.select(ctx) or Selection(ctx.visual)
        who = f"{self.settings.method} inside vLLM"
        rows = indices(selection.keep, ctx.total, who).to(given.features.device)
        places, order = rows.sort()
        if len(places) != ctx.keep:
            raise UsageError(
                f"{who} kept {len(places)} of {ctx.total} tokens, the budget is {ctx.keep}"
            )
        kept = given.features[places]
        if selection.values is not None:
            # DeepStack adds to the anchor what it had: a merged token stands at the anchor's place
            values = selection.values.to(given.features)[order]
            kept = torch.cat([values, kept[:, given.width :]], 1)
        elif given.picture:
            self._remember(given, places)
        self._trace(given, places, again=False)
        return kept, places

    def tried(self, width: int, *, video: bool) -> None:
        """Choose of made-up features, before anything is loaded: what fails within a request would
        end the engine.

        Args:
            width: of the language model.
            video: whether of a video of four frames.

        Raises:
            UsageError: the method refuses them.
        """
        parts = (Part(4 if video else 1, 4, 4),)
        features = torch.randn(sum(map(len, parts)), width, generator=torch.Generator())
        self(Encoded(features, width, parts, features[:3], video=video))

    def _context(self, given: Encoded) -> StageContext:
        total = len(given.features)
        hidden, added = given.features.split(
            [given.width, given.features.shape[1] - given.width], 1
        )
        if given.question is not None:
            hidden = torch.cat([hidden, given.question.to(hidden)])
        rows = torch.arange(total, device=hidden.device)
        return StageContext(
            layer=0,
            keep=self.keep(total),
            total=total,
            hidden=hidden,
            visual=rows,
            origin=torch.arange(len(hidden), device=hidden.device),
            vision_rows=rows,
            items=(given.item,),
            seed=self.settings.seed,
            # a session names the first picture of a prompt so under scope=item
            sample=f"{given.sample}/0",
            deepstack=lambda: added.float() if added.shape[1] else None,
        )

    def _remembered(self, given: Encoded) -> Tensor | None:
        key = given.picture, len(given.features)
        if not given.picture or key not in self._chosen:
            return None
        self._chosen.move_to_end(key)
        return self._chosen[key].to(given.features.device)

    def _remember(self, given: Encoded, places: Tensor) -> None:
        self._chosen[given.picture, len(given.features)] = places.cpu()
        if len(self._chosen) > REMEMBERED:
            self._chosen.popitem(last=False)

    def _trace(self, given: Encoded, places: Tensor, *, again: bool) -> None:
        if self.settings.trace is None or not given.picture:  # the profile run's pictures have none
            return
        line = {
            "picture": given.picture,
            "layout": written([given.item]),
            "kept": places.tolist(),
            "again": again,
        }
        # one write for each line: processes of one engine share the file
        with open(self.settings.trace, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def kept_of(settings: Settings, count: Any, total: int) -> int:
    """How many of ``total`` tokens a stage with this rule of its own keeps."""
    keep = settings.budget.keep(total)
    return min(total, keep if count is None else int(count(keep, total)))


def with_positions(kept: Tensor, positions: Tensor) -> Tensor:
    """Features ``[keep, D]`` with their positions ``[3, keep]``, counted from the picture's start,
    as channels behind them.
    """
    digits = torch.cat([positions // DIGIT, positions % DIGIT])
    return torch.cat([kept, digits.T.to(kept)], 1)


def positions_of(features: Tensor) -> tuple[Tensor, Tensor]:
    """Undo :func:`with_positions`."""
    digits = features[:, -CHANNELS:].T.long()
    return features[:, :-CHANNELS], digits[:3] * DIGIT + digits[3:]


def raster(height: int, width: int, times: Sequence[int] = (0,)) -> Tensor:
    """Positions of a grid for each time, ``[3, T * H * W]``."""
    grid = torch.cartesian_prod(torch.as_tensor(times), torch.arange(height), torch.arange(width))
    return grid.reshape(-1, 3).T


def line(length: int) -> Tensor:
    """Positions of one dimension as three equal axes, ``[3, length]``."""
    return torch.arange(length).expand(3, -1)


def calls_of(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """How a call is taken apart so that none has more than ``most`` unpruned tokens, but for one
    item that has more by itself: first item and the one behind the last.

    The engine counts what is left of a picture, and would encode at once as many as leave the
    number of tokens that it was profiled with.

    >>> list(calls_of([144, 144, 144, 500, 100], 400))
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    first, total = 0, 0
    for number, size in enumerate(sizes):
        if number > first and total + size > most:
            yield first, number
            first, total = number, 0
        total += size
    if sizes:
        yield first, len(sizes)
