"""Every video method at the sizes of published videos against the Gram matrix of the features, as
ratios within one run.

python -m benchmarks.videos
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks._cases import (
    CHANNELS,
    HEAD_DIM,
    HEADS,
    KV_HEADS,
    TEXT,
    WIDTH,
    DrawnFamily,
    DrawnVision,
)
from benchmarks._report import CLOCK, exponent, seconds, short, spread, table, write
from unibench import StageContext
from unibench.api import build_method
from unibench.cost.memory import peak_memory
from unibench.ops import unit
from unibench.pruning import Item
from unibench.pruning.attention import QueryKey
from unibench.pruning.layout import Part

# frames, height, width: eight frames to try it, LLaVA-OneVision's 32 and LLaVA-Video's 64
SIZES = {1568: (8, 14, 14), 6272: (32, 14, 14), 10816: (64, 13, 13)}
SCENE = 4  # frames that resemble each other
RATIO = 0.75  # removed
# what each needs beside its options, and the complexity of its published code
METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "vidcom2": ({}, "O(N D)"),
    "evs": ({}, "O(N D)"),
    "dycoke": ({}, "O(N D)"),
    "fastvid": ({}, "O(T n^2 D) densities, O(L n A D) merges"),
    "flashvid": ({}, "O(T n^2 D) three times, O(n) a pick"),
    "holitom": ({}, "O(N D), O(T^2 n) scenes, O(n^2 D) a scene"),
    "prunevid": ({}, "O(T^2 D + n^2 D) a segment; a whole attention map inside"),
    "framefusion": ({}, "O(N D) in front of a layer, one row of attention"),
    "sttm": ({}, "O(N D), O(T m^2) boxes of m nodes a frame"),
    "aim": ({}, "O(n^2 D / 4) a frame and step; a whole map in every layer"),
}


@dataclass
class Found:
    """What was measured of a method, by number of tokens."""

    to_gram: dict[int, list[float]] = field(default_factory=dict)
    time: dict[int, list[float]] = field(default_factory=dict)
    memory: dict[int, float] = field(default_factory=dict)


def frames_of(size: tuple[int, int, int], seed: int = 0) -> Tensor:
    """``[N, WIDTH]``: scenes of like frames, whose places differ from each other."""
    draw = torch.Generator().manual_seed(seed)
    frames, height, width = size
    scenes = torch.randn(-(-frames // SCENE), height * width, WIDTH, generator=draw)
    shown = scenes[torch.arange(frames) // SCENE]
    return (shown + 0.3 * torch.randn(shown.shape, generator=draw)).flatten(0, 1)


def context_of(count: int) -> StageContext:
    """A prompt with a video of so many tokens, before the language model."""
    draw = torch.Generator().manual_seed(1)
    hidden = torch.cat([frames_of(SIZES[count]), torch.randn(TEXT, WIDTH, generator=draw)])
    query = torch.randn(HEADS, len(hidden), HEAD_DIM, generator=draw)
    key = torch.randn(KV_HEADS, len(hidden), HEAD_DIM, generator=draw)
    qk = QueryKey(query, key, HEAD_DIM**-0.5)
    return StageContext(
        layer=0,
        keep=round((1 - RATIO) * count),
        total=count,
        hidden=hidden,
        visual=torch.arange(count),
        origin=torch.arange(len(hidden)),
        vision_rows=torch.arange(count),
        items=(Item(0, count, (Part(*SIZES[count]),), video=0),),
        vision=DrawnVision(hidden[:count, :CHANNELS]),
        family=DrawnFamily(qk),  # type: ignore[arg-type]
        sample="drawn",
        query_key=lambda layer: qk,
    )


def gram(features: Tensor) -> Tensor:
    """What selections are measured against: all features normalised, and multiplied with each
    other.
    """
    rows = unit(features)
    return rows @ rows.T


def selection(name: str, ctx: StageContext) -> Callable[[], Any]:
    """The first cut of a method, which sees the whole video."""
    first = build_method(name, **METHODS[name][0]).stages(28)[0]
    return lambda: first.select(ctx)


def measure(found: dict[str, Found], count: int, repeats: int) -> float:
    """Time every method beside the Gram matrix; returns the MiB of that matrix."""
    for _ in range(repeats):
        for name, one in found.items():
            ctx = context_of(count)
            features = ctx.hidden[:count]
            product = seconds(lambda features=features: gram(features))  # type: ignore[misc]
            own = seconds(selection(name, ctx))
            one.time.setdefault(count, []).append(own)
            one.to_gram.setdefault(count, []).append(own / product)
    for name, one in found.items():
        run = selection(name, context_of(count))
        with peak_memory(torch.device("cpu")) as peak:
            run()
        one.memory[count] = peak.mib
    return count**2 * 4 / 2**20


def page(found: dict[str, Found], counts: Sequence[int], matrix: dict[int, float]) -> list[str]:
    """The table."""
    rows = []
    for name, one in found.items():
        medians = [spread(one.time[count]).middle for count in counts]
        rows.append(
            [
                name,
                *(str(spread(one.to_gram[count])) for count in counts),
                *(short(one.memory[count]) for count in counts),
                exponent(counts, medians),
                exponent(counts, list(one.memory.values())),
                METHODS[name][1],
            ]
        )
    heads = [
        "method",
        *(f"/ Gram, N={count}" for count in counts),
        *(f"MiB, N={count}" for count in counts),
        "growth of time",
        "of memory",
        "published code",
    ]
    sizes = ", ".join(f"{short(matrix[count])} MiB at {count}" for count in counts)
    return [*table(heads, rows), "", f"The Gram matrix itself: {sizes}."]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[6272, 10816], choices=SIZES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: Found() for name in arguments.methods}
    with torch.inference_mode():
        matrix = {count: measure(found, count, arguments.repeats) for count in arguments.counts}
    lines = [
        "# Video methods",
        "",
        f"Width {WIDTH}, float32, a quarter of N kept, scenes of {SCENE} like frames.",
        "The first cut of each, which sees the whole video; of framefusion that is one layer's",
        "merging, of aim the merging within frames, of prunevid the first of two stages. *Gram*:",
        "normalising and multiplying all features with each other, measured just before. *MiB*:",
        "what a selection takes at its peak beside the features. *growth*: the power of N from one",
        "size to the next, where N grows by 1.72 and a frame shrinks from 196 to 169 tokens.",
        "",
        *page(found, arguments.counts, matrix),
        "",
        f"Repeats: {arguments.repeats}; median (quartiles). {CLOCK}",
    ]
    write("videos", lines)


if __name__ == "__main__":
    main()
