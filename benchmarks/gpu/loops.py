"""The greedy loops alone, plain and as one kernel, and received attention alone, by the map in
chunks and by the log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu.board import Spread
from benchmarks.gpu.contenders import triton_serves
from unibench import ops
from unibench.cost import Clock
from unibench.cost.memory import peak_memory
from unibench.ops.received import streamed
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
    if triton_serves():
        from unibench.ops.one_kernel import one_kernel  # imports Triton

        way: Callable[[], AbstractContextManager[None]] | None = one_kernel
    else:
        way = None
    for name, loop in known.items():
        yield _timed(name, count, loop, way, device, _equal)


def signals(count: int, device: torch.device) -> Iterator[Timed]:
    """The attention that patches of a tower layer receive."""
    g = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    query, key = (
        torch.randn(1, HEADS, count, HEAD, generator=g).to(device, dtype) for _ in range(2)
    )
    qk = QueryKey(query, key, HEAD**-0.5)

    def run() -> Tensor:
        return received_attention(qk)

    yield _timed("received attention, in tiles", count, run, streamed, device, _distance)
    if triton_serves():
        from unibench.ops.one_pass import one_pass  # imports Triton

        yield _timed("received attention, one kernel", count, run, one_pass, device, _distance)


def _timed(
    name: str,
    count: int,
    run: Loop,
    way: Callable[[], AbstractContextManager[None]] | None,
    device: torch.device,
    compare: Callable[[Tensor, Tensor], str],
) -> Timed:
    clock, spent = Clock(device), dict[bool, list[float]]()
    memory, results = dict[bool, float](), dict[bool, Tensor]()
    ways = [False] if way is None else [False, True]
    for number in range(REPEATS + 1):
        for other in ways:
            with way() if other and way is not None else nullcontext():
                if number == 0:  # compiles, and is not timed
                    results[other] = run()
                    with peak_memory(device) as peak:
                        run()
                    memory[other] = peak.mib
                    continue
                start = clock.mark()
                run()
                end = clock.mark()
            spent.setdefault(other, []).append(1000 * clock.seconds(start, end))
    return Timed(
        name,
        count,
        Spread.of(spent[False]),
        Spread.of(spent[True]) if True in spent else None,
        memory[False],
        memory.get(True),
        compare(results[False], results[True]) if True in results else "-",
    )


def _equal(plain: Tensor, other: Tensor) -> str:
    if torch.equal(plain, other):
        return "equal"
    first, second = set(plain.tolist()), set(other.tolist())
    return f"{len(first - second)} of {len(first)} differ"


def _distance(plain: Tensor, other: Tensor) -> str:
    return f"{float((plain - other).abs().max() / plain.abs().max()):.1e}"
