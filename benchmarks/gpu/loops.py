"""The greedy loops alone, plain and as one kernel, and received attention alone, by the map in
chunks and by the log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.board import Spread
from benchmarks.gpu.contenders import triton_serves
from unibench import ops
from unibench.cost import Clock
from unibench.cost.memory import peak_memory
from unibench.ops.received import in_tiles, received
from unibench.pruning.attention import QueryKey, received_attention

WIDTH, KEPT = 3584, 1 / 9  # of Qwen2.5-VL-7B's features; share kept
HEADS, HEAD = 16, 80  # of its tower
REPEATS = 5
Loop = Callable[[], Tensor]


@dataclass(frozen=True)
class Timed:
    """One computation in two ways, each measured alone with its input at hand.

    Attributes:
        name: of the loop or signal.
        count: tokens.
        plain: milliseconds.
        other: the same of the kernel; None where there is none.
        plain_mib: memory beside the input.
        other_mib: the same of the kernel.
        alike: whether picks are equal, or the largest difference of scores over the largest score.
    """

    name: str
    count: int
    plain: Spread
    other: Spread | None
    plain_mib: float
    other_mib: float | None
    alike: str


def loops(count: int, device: torch.device) -> Iterator[Timed]:
    """Every greedy loop that has a kernel, behind a finished similarity matrix."""
    g = torch.Generator().manual_seed(0)
    # patches resemble each other: a few directions in common, and noise of their own
    common = torch.randn(count, 24, generator=g) @ torch.randn(24, WIDTH, generator=g)
    features = (common + 2 * torch.randn(count, WIDTH, generator=g)).to(device)
    importance = torch.rand(count, generator=g).to(device)
    likeness, keep = ops.cosine(features), max(2, round(count * KEPT))
    apart = 1 - likeness
    known: Mapping[str, Loop] = {
        "max_min (divprune)": lambda: ops.max_min(apart, keep),
        "mmr (idpruner)": lambda: ops.mmr(importance, likeness, keep, 0.5),
        "rep_max (trimtokenator)": lambda: ops.rep_max(likeness, keep),
        "quality_determinantal (cdpruner)": lambda: ops.quality_determinantal(
            likeness, importance, keep
        ),
    }
    for name, loop in known.items():
        other = None
        if triton_serves():
            from unibench.ops.one_kernel import one_kernel  # imports Triton

            other = one_kernel()(loop)
        yield _timed(name, count, loop, other, device, _equal)


def signals(count: int, device: torch.device) -> Iterator[Timed]:
    """The attention that patches of a tower layer receive."""
    g = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    query, key = (
        torch.randn(1, HEADS, count, HEAD, generator=g).to(device, dtype) for _ in range(2)
    )
    qk = QueryKey(query, key, HEAD**-0.5)
    ways = {"in tiles": in_tiles}
    if triton_serves():
        from unibench.ops.one_pass import columns  # imports Triton

        ways["one kernel"] = columns
    for name, columns_of in ways.items():
        other = partial(received, query, key, qk.scaling, columns=columns_of)
        plain = partial(received_attention, qk)
        yield _timed(f"received attention, {name}", count, plain, other, device, _distance)


def _timed(
    name: str,
    count: int,
    plain: Loop,
    other: Loop | None,
    device: torch.device,
    compare: Callable[[Tensor, Tensor], str],
) -> Timed:
    """Both ways in turn, each beside its memory."""
    ways = [plain] if other is None else [plain, other]
    results = [run() for run in ways]  # compiles, and is not timed
    memory = []
    for run in ways:
        with peak_memory(device) as peak:
            run()
        memory.append(peak.mib)
    clock, spent = Clock(device), [list[float]() for _ in ways]
    for _ in range(REPEATS):
        for run, taken in zip(ways, spent, strict=True):
            start = clock.mark()
            run()
            taken.append(1000 * clock.seconds(start, clock.mark()))
    spreads = [Spread.of(taken) for taken in spent]
    if other is None:
        return Timed(name, count, spreads[0], None, memory[0], None, "-")
    return Timed(name, count, *spreads, *memory, compare(*results))


def _equal(plain: Tensor, other: Tensor) -> str:
    if torch.equal(plain, other):
        return "equal"
    first, second = set(plain.tolist()), set(other.tolist())
    return f"{len(first - second)} of {len(first)} differ"


def _distance(plain: Tensor, other: Tensor) -> str:
    return f"{float((plain - other).abs().max() / plain.abs().max()):.1e}"
