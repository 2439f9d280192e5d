"""What the greedy kernels pick in Triton's interpreter, beside the plain loops; run as a process of
its own, since the interpreter must be chosen before Triton is imported.

    TRITON_INTERPRET=1 python -m tests.gpu.interpreted drawn
    TRITON_INTERPRET=1 python -m tests.gpu.interpreted golden divprune idpruner
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from unibench import ops
from unibench.ops.one_kernel import KERNELS, one_kernel

Loop = Callable[[], Tensor]


def features(count: int, kind: str) -> Tensor:
    g = torch.Generator().manual_seed(count)
    if kind == "ties":  # small whole numbers: many rows are equal, and many distances
        return torch.randint(-1, 2, (count, 3), generator=g).float()
    drawn = torch.randn(count, 16, generator=g)
    if kind == "broken":
        drawn[[1, count // 2]] = torch.nan
    return drawn


def loops(count: int, kind: str) -> Iterator[tuple[str, Loop]]:
    """Every selector that has a kernel, on drawn rows."""
    x, keep = features(count, kind), max(2, count // 3)
    g = torch.Generator().manual_seed(1)
    importance = torch.rand(count, generator=g)
    likeness = ops.cosine(x)
    apart = 1 - likeness
    yield "max_min", lambda: ops.max_min(apart, keep)
    yield "max_min preferred", lambda: ops.max_min(apart, keep, importance)
    yield "farthest", lambda: ops.farthest(apart, keep, torch.tensor([0, count - 1]))
    yield "mmr", lambda: ops.mmr(importance, likeness, keep, 0.3)
    yield "rep_max", lambda: ops.rep_max(likeness, keep)
    if kind == "noise":  # where the kernel is singular, the plain loop's picks follow rounding too
        yield "determinantal", lambda: ops.determinantal(likeness, min(keep, 12))
        yield (
            "quality_determinantal",
            lambda: ops.quality_determinantal(likeness, importance, min(keep, 12)),
        )


def drawn() -> dict[str, bool]:
    """Whether the picks are equal, for each loop on each kind of rows."""
    found = {}
    for kind in ("noise", "ties", "broken"):
        for count in (2, 7, 64, 100):
            for name, loop in loops(count, kind):
                plain = loop()
                with one_kernel():
                    found[f"{name}, {kind}, {count}"] = torch.equal(loop(), plain)
    return found


def signals() -> dict[str, float]:
    """The largest difference of received attention by the kernel from the whole map's, for each
    kind of input, over the largest score.
    """
    from tests.gpu.test_received import SCALING, from_the_map, queries_and_keys
    from unibench.ops.one_pass import columns
    from unibench.ops.received import received

    found = {}
    # the interpreter's products know no bfloat16
    for groups, width, others, dtype in (
        (4, 8, None, torch.float32),
        (2, 20, 3, torch.float32),
        (2, 20, 0, torch.float16),
    ):
        query, key = (part.to(dtype) for part in queries_and_keys(150, groups=groups, width=width))
        score = received(query, key, SCALING, others, columns=columns)
        expected = from_the_map(query, key, others)
        apart = float((score - expected).abs().max() / expected.max())
        found[f"{groups} groups, width {width}, others {others}, {dtype}"] = apart
    return found


def golden(folders: list[str]) -> dict[str, list[str]]:
    """Of each golden case of some folders, the loops that ran as a kernel; a case whose picks
    differ says so instead.
    """
    from benchmarks.gpu.golden import answers, chosen, same

    found = {}
    for case, entry in chosen(folders):
        plain, (fused, used) = answers(case, entry), watched(case, entry)
        found[case.name] = used if same(plain, fused) else ["picks differ"]
    return found


def watched(case, entry):  # type: ignore[no-untyped-def]
    """The answer to a case with kernels, and which of them gave picks."""
    from benchmarks.gpu.golden import answers
    from unibench.ops import kernels

    used: list[str] = []

    def noted(name: kernels.Name) -> kernels.Kernel:
        def run(*args: object) -> Tensor | None:
            picks = KERNELS[name](*args)
            if picks is not None:
                used.append(name)
            return picks

        return run

    with kernels.installed({name: noted(name) for name in KERNELS}):
        return answers(case, entry), used


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, *folders = sys.argv[1:]
    known = {"drawn": drawn, "signals": signals, "golden": lambda: golden(folders)}
    print(json.dumps(known[what]()))
