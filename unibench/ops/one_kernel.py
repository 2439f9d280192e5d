"""Each greedy loop of :mod:`unibench.ops.greedy` as one Triton kernel.

A plain loop launches a handful of kernels for each pick, and on a GPU waits for their launches, not
for their arithmetic. Here one program holds the running vector in its registers and goes through
all picks by itself: a row is read, the vector is updated, the greatest is found::

    registers  [value of each of N tokens]   <- update with row <-  row of the pick   (memory)
               [whether it is free       ]   -> greatest free  ->  the next pick

One program is one multiprocessor: what it reads per pick must be small. That holds for the loops
that read one row, O(K N) in all; the determinantal one reads all factors before it, O(K^2 N), out
of the cache.

The arithmetic is that of the plain loop, operation by operation and rounded alike, so that picks
are equal: no multiply-add is fused, roots and quotients are rounded as IEEE says. Only the sum over
earlier factors of :func:`determinantal` has another order.

Importing this needs Triton. ``TRITON_INTERPRET=1``, set before, runs the same code in numpy on a
CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor

from unibench.ops import kernels
from unibench.ops.greedy import EXHAUSTED
from unibench.ops.pairs import Pairs, nearest, reduced, rows_of
from unibench.ops.work import did

WIDEST = 16384  # tokens whose running vector fits into the registers of one program
TILE = 32768  # numbers of earlier factors that are read together
LOWEST = tl.constexpr(-(2**31))
NAN = tl.constexpr(2**31 - 1)  # above every number: torch takes NaN for the greatest
MAX_MIN, PREFERRED, MMR, REP_MAX = (tl.constexpr(number) for number in range(4))


@triton.jit  # type: ignore[untyped-decorator]
def _greatest(value, free, inside, at, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: N803
    """Index of the greatest, of equal ones the first: as ``torch.argmax`` of the vector in which
    what was picked is minus infinity.
    """
    value = tl.where(free, value, float("-inf"))
    bits = value.to(tl.int32, bitcast=True)
    # floats as integers of the same order: the magnitude of a negative one counts downwards
    rank = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    rank = tl.where(value == 0.0, 0, rank)  # -0 equals 0
    rank = tl.where(value != value, NAN, rank)
    rank = tl.where(inside, rank, LOWEST)
    # one maximum over (rank, place from the end) breaks ties the same way on every device
    both = (rank.to(tl.int64) << 32) | (BLOCK - 1 - at).to(tl.int64)
    return BLOCK - 1 - (tl.max(both, axis=0) & 0xFFFFFFFF)


@triton.jit(do_not_specialize=["n", "k"])  # type: ignore[untyped-decorator]
def _running(  # type: ignore[no-untyped-def]
    pairs, stride, first, extra, taken, picks, n, k, less,
    KIND: tl.constexpr, GOES_ON: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Loops whose update reads one row.

    ``state`` is what the plain loop carries along: the least distance, the greatest similarity, or
    the negative sum of similarities.
    """
    at = tl.arange(0, BLOCK)
    inside = at < n
    value = tl.load(first + at, mask=inside, other=0.0)
    free = inside & (tl.load(taken + at, mask=inside, other=1) == 0)
    more = tl.load(extra + at, mask=inside, other=0.0)
    if GOES_ON:
        state = value
    elif KIND == MMR:
        state = tl.full([BLOCK], float("-inf"), tl.float32)
    elif KIND == REP_MAX:
        state = tl.zeros([BLOCK], tl.float32)
    else:
        state = tl.full([BLOCK], float("inf"), tl.float32)
    for step in range(k):
        pick = _greatest(value, free, inside, at, BLOCK)
        tl.store(picks + step, pick)
        free = free & (at != pick)
        row = tl.load(pairs + pick * stride + at, mask=inside, other=0.0)
        # minima and maxima hand NaN on, as torch's do
        if KIND == MMR:
            state = tl.where((row > state) | (row != row), row, state)
            value = more - state * less
        elif KIND == REP_MAX:
            state = state - row
            value = state
        else:
            state = tl.where((row < state) | (row != row), row, state)
            value = more * state if KIND == PREFERRED else state


@triton.jit(do_not_specialize=["n", "k"])  # type: ignore[untyped-decorator]
def _determinantal(  # type: ignore[no-untyped-def]
    pairs, stride, whole, quality, factor, picks, n, k, share, tiny,
    WEIGHTED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Greedy MAP of a determinantal point process; ``factor [k, n]`` is its Cholesky factor."""
    at = tl.arange(0, BLOCK)
    inside = at < n
    gain = tl.load(whole + at, mask=inside, other=0.0)
    least = share * gain
    weight = tl.load(quality + at, mask=inside, other=0.0)
    free = inside
    for step in range(k):
        pick = _greatest(gain, free, inside, at, BLOCK)
        tl.store(picks + step, pick)
        free = free & (at != pick)
        here = at == pick
        row = tl.load(pairs + pick * stride + at, mask=inside, other=0.0)
        if WEIGHTED:
            row = (row * tl.sum(tl.where(here, weight, 0.0), axis=0)) * weight
        before = tl.zeros([BLOCK], tl.float32)
        for start in range(0, step, ROWS):
            rows = start + tl.arange(0, ROWS)
            known = rows < step
            mine = tl.load(factor + rows * n + pick, mask=known, other=0.0)
            part = tl.load(
                factor + rows[:, None] * n + at[None, :],
                mask=known[:, None] & inside[None, :],
                other=0.0,
            )
            before += tl.sum(mine[:, None] * part, axis=0)
        left = tl.sum(tl.where(here, gain, 0.0), axis=0)
        spans = left > tl.sum(tl.where(here, least, 0.0), axis=0)
        root = tl.sqrt_rn(tl.maximum(left, tiny))
        now = tl.where(spans, tl.div_rn(row - before, root), 0.0)
        tl.store(factor + step * n + at, now, mask=inside)
        gain = gain - now * now
        # other threads of the program read what this one has stored
        tl.debug_barrier()


def max_min(distance: Pairs, k: int, preference: Tensor | None = None) -> Tensor | None:
    """As :func:`unibench.ops.greedy.max_min`."""
    if not _serves(distance, preference):
        return None
    kind = MAX_MIN if preference is None else PREFERRED
    return _loop(distance, nearest(distance), k, kind, extra=preference)


def farthest(distance: Pairs, k: int, start: Tensor) -> Tensor | None:
    """As :func:`unibench.ops.greedy.farthest`."""
    if not _serves(distance):
        return None
    first = rows_of(distance, start).amin(0)
    return _loop(distance, first, k, MAX_MIN, taken=start, goes_on=True)


def mmr(similarity: Pairs, k: int, importance: Tensor, weight: float) -> Tensor | None:
    """As :func:`unibench.ops.greedy.mmr`."""
    if not _serves(similarity, importance):
        return None
    did(2 * k * len(importance))
    relevant = weight * importance
    return _loop(similarity, importance, k, MMR, extra=relevant, less=1 - weight)


def rep_max(similarity: Pairs, k: int) -> Tensor | None:
    """As :func:`unibench.ops.greedy.rep_max`."""
    if not _serves(similarity):
        return None
    did(k * len(similarity))
    return _loop(similarity, -reduced(similarity, lambda block: block.mean(1)), k, REP_MAX)


def determinantal(kernel: Pairs, k: int, quality: Tensor | None) -> Tensor | None:
    """As :func:`unibench.ops.greedy.determinantal`."""
    if not _serves(kernel, quality):
        return None
    n, diagonal = len(kernel), kernel.diagonal()
    whole = diagonal.contiguous() if quality is None else quality * diagonal * quality
    block = triton.next_power_of_2(n)
    picks, factor = _picks(kernel, k), whole.new_empty(k, n)
    did(k * k * n + 7 * k * n)  # products with earlier factors, and the steps of each pick
    with _on(kernel):
        _determinantal[(1,)](
            kernel, kernel.stride(0), whole, (whole if quality is None else quality).contiguous(),
            factor, picks, n, k, EXHAUSTED, torch.finfo(torch.float32).tiny,
            WEIGHTED=quality is not None, ROWS=max(1, TILE // block), BLOCK=block,
            num_warps=_warps(block), enable_fp_fusion=False,
        )  # fmt: skip
    return picks


KERNELS: dict[kernels.Name, kernels.Kernel] = {
    "max_min": max_min,
    "farthest": farthest,
    "mmr": mmr,
    "rep_max": rep_max,
    "determinantal": determinantal,
}


@contextmanager
def one_kernel() -> Iterator[None]:
    """Greedy loops run as one kernel each for the length of the block, where their input is float32
    and has at most :data:`WIDEST` rows::

        with one_kernel(), unibench.prune(model, "divprune", ratio=0.889):
            model.generate(**inputs)
    """
    with kernels.installed(KERNELS):
        yield


def _loop(
    pairs: Tensor,
    first: Tensor,
    k: int,
    kind: tl.constexpr,
    *,
    extra: Tensor | None = None,
    taken: Tensor | None = None,
    goes_on: bool = False,
    less: float = 0.0,
) -> Tensor:
    n, picks = len(pairs), _picks(pairs, k)
    gone = torch.zeros(n, dtype=torch.int8, device=pairs.device)
    if taken is not None:
        gone.index_fill_(0, taken, 1)
    block = triton.next_power_of_2(n)
    with _on(pairs):
        _running[(1,)](
            pairs, pairs.stride(0), first.contiguous(),
            (first if extra is None else extra).contiguous(), gone, picks, n, k, float(less),
            KIND=kind.value, GOES_ON=goes_on, BLOCK=block,
            num_warps=_warps(block), enable_fp_fusion=False,
        )  # fmt: skip
    return picks


def _serves(pairs: Pairs, vector: Tensor | None = None) -> TypeGuard[Tensor]:
    """Whether a kernel is written for such input; everything else is the plain loop's."""
    vectors = () if vector is None else (vector,)
    # rows that are computed on demand are a product each, which no loop over rows can hold
    return (
        isinstance(pairs, Tensor)
        and all(part.dtype == torch.float32 for part in (pairs, *vectors))
        and 1 < len(pairs) <= WIDEST
        and pairs.stride(1) == 1
        and pairs.device.type != "meta"
    )


def _picks(pairs: Tensor, k: int) -> Tensor:
    return torch.empty(k, dtype=torch.long, device=pairs.device)


def _on(pairs: Tensor) -> torch.cuda.device:
    """Triton launches on torch's current device, whichever the tensors are on."""
    return torch.cuda.device(pairs.device if pairs.is_cuda else -1)


def _warps(block: int) -> int:
    """Warps of 32 threads: about four numbers of the vector for each thread."""
    return min(32, max(4, block // 128))
