"""Every selector against the measured Gram matrix and against a straightforward reference, as
ratios within one run.

python -m benchmarks.selectors
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from benchmarks import _references as plain
from benchmarks._cases import Case, case
from benchmarks._report import CLOCK, exponent, seconds, short, spread, table, write
from unibench import registry
from unibench.api import build_method
from unibench.cost.memory import peak_memory
from unibench.methods._selector import load
from unibench.ops import cosine, max_min, min_max, mmr, quality_determinantal, rep_max, unit

COUNTS = (576, 2691, 11000)
LONGEST = 40.0  # processor seconds that a reference may take at the next count
# what a selection must read at least, where that is not the Gram matrix
NEEDED: dict[str, Callable[[Case], Any]] = {
    "fitprune": lambda this: [
        this.ctx.attention(1, part).amax(0) for part in this.ctx.visual.split(256)
    ],
}
# made of others, or of several stages; zoo_prune's time is that of the projector, ficoco_v's that
# of the tower's blocks, pixelprune's that of pixels
COMPOSED = {"vanilla", "two_stage", "schedule", "mustdrop", "zoo_prune", "ficoco_v", "pixelprune"}
FIRST = {"vscan"}  # whose first stage is the work, and whose last one is fastv's
SELECTOR = {"selector_path": "random:0"}
OPTIONS = {"visionselector": SELECTOR, "idpruner": SELECTOR, "d2pruner": {"prior": "random:0"}}
Run = Callable[[], Any]


@dataclass(frozen=True)
class Loop:
    """What a method does behind the similarity matrix, ours and as written down.

    Attributes:
        ours: given a case and its cosines (or one minus them); None is the whole selection.
        reference: the same.
        distance: whether both read one minus the cosines.
    """

    ours: Callable[[Case, torch.Tensor], Any] | None
    reference: Callable[[Case, torch.Tensor], Any]
    distance: bool = False


def _kernel(this: Case, likeness: torch.Tensor) -> torch.Tensor:
    quality = min_max(this.saliency, eps=1e-6)
    return quality[:, None] * likeness * quality


MAX_MIN = Loop(
    lambda this, d: max_min(d, this.keep),
    lambda this, d: plain.max_min(d, this.keep),
    distance=True,
)
FARTHEST = Loop(
    lambda this, d: max_min(d, this.keep),
    lambda this, d: plain.farthest(d, this.keep),
    distance=True,
)
DPP = Loop(
    lambda this, s: quality_determinantal(s, this.saliency, this.keep),
    lambda this, s: plain.determinantal(_kernel(this, s), this.keep),
)
WEIGHTS = load("random:0", 3584).weights
LOOPS = {
    "divprune": MAX_MIN,
    "stp": MAX_MIN,
    "greedy_diversity": FARTHEST,
    "naive_hybrid": FARTHEST,
    "cdpruner": DPP,
    "dpp": DPP,
    "idpruner": Loop(
        lambda this, s: mmr(this.saliency, s, this.keep, 0.5),
        lambda this, s: plain.mmr(this.saliency, s, this.keep, 0.5),
    ),
    "trimtokenator": Loop(
        lambda this, s: rep_max(s, this.keep), lambda this, s: plain.rep_max(s, this.keep)
    ),
    "scope": Loop(
        None, lambda this, s: plain.coverage(cosine(this.features), this.saliency, this.keep)
    ),
    "vispruner": Loop(None, lambda this, s: plain.thinned(this.features, this.saliency, this.keep)),
    "gprune": Loop(
        None,
        lambda this, s: plain.flow(cosine(this.features), this.features.norm(dim=-1), 0.5, 0.03, 5),
    ),
    "visionselector": Loop(None, lambda this, s: plain.agreement(this.features, WEIGHTS)),
}


SOURCES = [
    ["divprune, stp", "DivPrune's code", "O(K^2 N): the minimum over all picks anew", "O(K N)"],
    ["greedy_diversity, naive_hybrid", "AngelSlim's DivPrune", "O(K N)", "O(K N)"],
    ["idpruner", "AngelSlim's code", "O(K N)", "O(K N)"],
    ["trimtokenator", "the paper's equations 9 to 16", "O(K N)", "O(K N)"],
    ["cdpruner, dpp", "CDPruner's code", "O(K^2 N)", "O(K^2 N)"],
    ["scope", "SCOPE's code", "O(K N^2)", "O(K N) and the gains that are evaluated"],
    ["vispruner", "VisPruner's code", "O(N^3 D)", "O(N^2 D) and rows without a near neighbour"],
    ["gprune", "G-Prune's code", "O(N^3)", "O(N^2)"],
    ["visionselector", "VisionSelector's code", "O(N^2 D)", "O(N D^2)"],
]


@dataclass
class Found:
    """What was measured of a method, by number of tokens."""

    to_gram: dict[int, list[float]] = field(default_factory=dict)
    time: dict[int, list[float]] = field(default_factory=dict)
    memory: dict[int, float] = field(default_factory=dict)
    speedup: dict[int, list[float]] = field(default_factory=dict)


def gram(this: Case) -> torch.Tensor:
    """What selections are measured against: all features normalised, and multiplied with each
    other.
    """
    rows = unit(this.features)
    return rows @ rows.T


def leader(name: str, names: Iterable[str]) -> str | None:
    """The first of the methods with the same loop: it is timed for all of them."""
    return next(
        (other for other in names if other in LOOPS and LOOPS[other] is LOOPS.get(name)), None
    )


def selection(name: str, this: Case) -> Run:
    """The selection of a method: its last stage, after the stages before."""
    *before, last = build_method(name, **OPTIONS.get(name, {})).stages(28)
    if name in FIRST:
        *before, last = before[:1]
    for stage in before:
        if stage.layer in (0, last.layer - 1):  # what they leave in the memory of the sample
            stage.select(this.ctx)
    return lambda: last.select(this.ctx)


def measure(
    found: dict[str, Found],
    count: int,
    kind: str,
    repeats: int,
    names: list[str],
    slowest: dict[str, float],
) -> None:
    """Time every method beside the Gram matrix, and its loop beside the reference's."""
    this = case(count, kind)
    cosines = cosine(this.features)
    distances = 1 - cosines
    runs = {name: selection(name, this) for name in names}
    for name, run in runs.items():
        with peak_memory(torch.device("cpu")) as peak:  # which warms up as well
            run()
        found[name].memory[count] = peak.mib
    for _ in range(repeats):
        product = 0.0
        for name, run in runs.items():
            if name not in NEEDED and (
                count < 5000 or not product
            ):  # of the largest matrix once in a repeat is enough
                product = seconds(partial(gram, this))
            needed = seconds(partial(NEEDED[name], this)) if name in NEEDED else product
            own = seconds(run)
            found[name].time.setdefault(count, []).append(own)
            found[name].to_gram.setdefault(count, []).append(own / needed)
            loop = LOOPS.get(name)
            if (
                loop is None
                or leader(name, runs) != name
                or slowest.get(name, 0.0) * (count / 1000) ** 3 > LONGEST
            ):
                continue
            pairs = distances if loop.distance else cosines
            reference = seconds(partial(loop.reference, this, pairs))
            ours = own if loop.ours is None else seconds(partial(loop.ours, this, pairs))
            slowest[name] = max(slowest.get(name, 0.0), reference / (count / 1000) ** 3)
            found[name].speedup.setdefault(count, []).append(reference / ours)


def page(
    found: dict[str, Found], counts: list[int], kind: str, repeats: dict[int, int]
) -> list[str]:
    """The table of one kind of features."""
    rows = []
    for name, one in found.items():
        ratios = [str(spread(one.to_gram[count])) for count in counts]
        same = found[leader(name, found) or name]
        faster = [
            str(spread(same.speedup[count])) if count in same.speedup else "-" for count in counts
        ]
        medians = [spread(one.time[count]).middle for count in counts]
        rows.append(
            [
                name,
                *ratios,
                *faster,
                exponent(counts, medians),
                exponent(counts, list(one.memory.values())),
                short(one.memory[counts[-1]]),
            ]
        )
    heads = [
        "method",
        *(f"/ Gram, N={count}" for count in counts),
        *(f"reference / ours, N={count}" for count in counts),
        "growth of time",
        "of memory",
        f"MiB at {counts[-1]}",
    ]
    return [f"## {kind}", "", *table(heads, rows), "", f"Repeats: {repeats}; median (quartiles)."]


HEAD = [
    "# Selectors",
    "",
    (
        "Width 3584, a ninth of N kept, float32. *Gram*: normalising and multiplying all"
        " features with each other as one product,"
    ),
    (
        "measured just before each selection (of fitprune, whose scores are no cosines, the"
        " attention rows that it reads; at the"
    ),
    (
        "largest N once in a repeat). Selections multiply only half of it"
        " (unibench/ops/similarity.py). *growth*: the power of N"
    ),
    (
        "from one size to the next. Methods made of others (two_stage, schedule, mustdrop) cost"
        " what their parts cost. Left out:"
    ),
    (
        "zoo_prune (two passes of the projector for each of 64 directions and every token),"
        " ficoco_v (N x N products in blocks of the"
    ),
    (
        "vision tower, which gets shorter by it) and pixelprune (comparisons of pixels, O(N),"
        " before the tower). Of vscan it is the part"
    ),
    "before the language model.",
    "",
    (
        "prunesid costs more than twice the Gram matrix: it wants two (of its squashed"
        " features, and of cosines) and keep / 4 principal"
    ),
    (
        "components, all of them up to 1,024 tokens (O(N^3), float64), beyond that 26 products"
        " of N x N by N x (keep / 4 + 32)"
    ),
    (
        "(unibench/ops/components.py); the official code's random start is cheaper and differs"
        " from run to run."
    ),
    "",
    (
        "*reference / ours*: loops over K picks, both given the same finished matrix; of scope,"
        " vispruner, gprune and visionselector"
    ),
    (
        "the whole selection. A dash: no other way to compute it, or one that would take"
        " minutes. The references"
    ),
    (
        "(benchmarks/_references.py) have the complexity of the official code, or of the paper"
        " where none is published:"
    ),
    "",
    *table(["reference", "of", "cost behind the Gram matrix", "ours"], SOURCES),
    "",
    (
        "Where the official code carries a vector along as well, both do the same O(K N) or"
        " O(K^2 N) operations: no factor of 20 is to"
    ),
    (
        "be had there, and what is gained is calls and memory. Large temporaries of a reference"
        " are at times taken anew from the"
    ),
    (
        "system, at times not, as the allocator happens to stand; that makes scope's differ by"
        f" a factor of two between runs. {CLOCK}"
    ),
]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=["patches", "noise"])
    parser.add_argument("--methods", nargs="+", default=sorted(set(registry.methods()) - COMPOSED))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [*HEAD]
    for kind in arguments.kinds:
        found, slowest = {name: Found() for name in arguments.methods}, dict[str, float]()
        repeats = {
            count: arguments.repeats if count < 5000 else max(1, arguments.repeats // 3)
            for count in arguments.counts
        }
        for count in arguments.counts:
            with torch.inference_mode():
                measure(found, count, kind, repeats[count], arguments.methods, slowest)
        lines += ["", *page(found, arguments.counts, kind, repeats)]
    write("selectors", lines)


if __name__ == "__main__":
    main()
