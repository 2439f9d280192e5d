"""What is measured, the most important first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Way = Literal["plain", "at once"]
"""Loops and signals as they are by default, or by the kernels that take less of a GPU."""

MAIN, OTHER = 0.889, 0.667  # share removed


@dataclass(frozen=True)
class Shown:
    """What a prompt shows.

    Attributes:
        size: width and height in pixels.
        frames: of a video; 0 is a picture.
    """

    size: tuple[int, int]
    frames: int = 0

    def __str__(self) -> str:
        size = "x".join(map(str, self.size))
        return f"{self.frames} frames of {size}" if self.frames else size


@dataclass(frozen=True)
class Block:
    """Rows that are measured in turn: vanilla, keep-all, the resize control and every method.

    Attributes:
        model: name of its card.
        shown: of each prompt.
        batch: prompts.
        ratio: share of visual tokens removed.
        grid: whether a grid of methods is answered together afterwards, beside cell by cell.
        only: names of its methods; empty is all of the plan.
    """

    model: str
    shown: Shown
    batch: int
    ratio: float
    grid: bool = False
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A method of the board.

    Attributes:
        name: of the method.
        kind: what it reads.
        options: its parameters.
        at_once: whether it has a loop or a signal that kernels compute otherwise.
    """

    name: str
    kind: Literal["features", "vision attention", "language attention", "merging", "video"]
    options: tuple[tuple[str, str], ...] = ()
    at_once: bool = False


METHODS = (
    Entry("divprune", "features", at_once=True),
    # the question's embeddings: a CLIP of its own cannot be had with random weights
    Entry("cdpruner", "features", (("relevance", "embedding"),), at_once=True),
    Entry("idpruner", "vision attention", (("importance", "saliency"),), at_once=True),
    Entry("visionzip", "vision attention", at_once=True),
    Entry("vispruner", "vision attention", at_once=True),
    Entry("fastv", "language attention"),
    Entry("pyramiddrop", "language attention"),
    Entry("sparsevlm", "language attention"),
    Entry("prumerge_plus", "merging", at_once=True),
    Entry("tome", "merging"),
    Entry("vidcom2", "video"),
    Entry("fastvid", "video"),
)


@dataclass(frozen=True)
class Plan:
    """Everything that a command does.

    Attributes:
        blocks: of the cost board.
        methods: of each block.
        checked: models whose invariants are tried.
        layers: of the decoder and the tower of those.
        every: of the golden cases each so many-th is asked.
        loops: numbers of tokens at which the greedy loops are timed.
        signals: numbers of patches at which received attention is timed.
        repeats: passes of each method, in turn.
        new_tokens: decoded.
        text_tokens: of the question.
        full: whether models have their published size.
    """

    blocks: Sequence[Block]
    methods: Sequence[Entry]
    checked: Sequence[str]
    layers: int
    every: int
    loops: Sequence[int]
    signals: Sequence[int]
    repeats: int
    new_tokens: int
    text_tokens: int
    full: bool


def full_plan() -> Plan:
    """At published size, for a GPU."""
    checked = ("qwen2_5_vl_7b", "llava_1_5_7b", "qwen3_vl_8b", "internvl3_8b", "llava_onevision_7b")
    return Plan(
        blocks=tuple(_board()),
        methods=METHODS,
        checked=checked,
        layers=4,
        every=1,
        loops=(576, 2691, 6272),
        signals=(2304, 10764),
        repeats=5,
        new_tokens=8,
        text_tokens=64,
        full=True,
    )


# 576, 1,222, 2,691 and 6,272 tokens, which are 28 (Qwen3: 32) pixels along an edge
GRIDS = ((24, 24), (47, 26), (69, 39), (112, 56))
QWEN, QWEN3 = (
    [Shown((width * edge, height * edge)) for width, height in GRIDS] for edge in (28, 32)
)
LLAVA = Shown((336, 336))  # always 576
TILES = [Shown((896, 896)), Shown((1344, 1344)), Shown((1792, 1344))]  # of 256 tokens, and one more
VIDEO = Shown((384, 384), 32)  # 196 tokens for each frame: 6,272


def _board() -> Iterator[Block]:
    """By importance, and models of one wave only once: loading one takes as long as its rows."""
    yield Block("qwen2_5_vl_7b", QWEN[2], 1, MAIN)
    yield Block("qwen2_5_vl_7b", QWEN[2], 8, MAIN, grid=True)
    yield Block("llava_onevision_7b", VIDEO, 1, MAIN)
    yield Block("llava_1_5_7b", LLAVA, 8, MAIN)
    yield Block("llava_1_5_7b", LLAVA, 1, MAIN)
    yield Block("qwen3_vl_8b", QWEN3[2], 1, MAIN)
    yield Block("internvl3_8b", TILES[1], 1, MAIN)
    for ratio in (OTHER, MAIN):
        for batch in (1, 8, 32):
            yield from (Block("qwen2_5_vl_7b", shown, batch, ratio) for shown in QWEN)
    for model, sizes in (
        ("llava_1_5_7b", [LLAVA]),
        ("llava_onevision_7b", [VIDEO]),
        ("qwen3_vl_8b", QWEN3),
        ("internvl3_8b", TILES),
    ):
        for ratio in (MAIN, OTHER):
            for batch in (1, 8, 32):
                yield from (Block(model, shown, batch, ratio) for shown in sizes)


def dry_plan() -> Plan:
    """At reduced size, to try the script on a CPU."""
    picture, video = Shown((140, 84)), Shown((140, 84), 4)
    few = ("divprune", "visionzip", "fastv")
    return Plan(
        blocks=(
            Block("qwen2_5_vl_7b", picture, 2, MAIN, grid=True),
            Block("llava_onevision_7b", video, 1, MAIN),
            Block("llava_1_5_7b", picture, 1, OTHER, only=("tome", *few)),
            Block("qwen3_vl_8b", picture, 1, MAIN, only=few),
            Block("internvl3_8b", picture, 1, MAIN, only=few),
        ),
        methods=METHODS,
        checked=("llava_1_5_7b",),
        layers=4,
        every=24,
        loops=(64,),
        signals=(96,),
        repeats=2,
        new_tokens=2,
        text_tokens=8,
        full=False,
    )


def without_repeats(blocks: Sequence[Block]) -> list[Block]:
    """Each block once, where it stands first."""
    return list(dict.fromkeys(blocks))
