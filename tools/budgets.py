"""Prints the table of docs/budgets.md from the methods themselves: ``python -m tools.budgets``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from unibench import Stage, UsageError
from unibench.api import build_method
from unibench.cost.accounting import equivalent_tokens, processed

TOTAL, DEPTH, KEEPS = 576, 32, (192, 128, 64)

METHODS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("any pre-LLM method", "random_pre", {}),
    ("fastv, random_intra, dart (K = 2)", "fastv", {}),
    ("pyramiddrop (8, 16, 24)", "pyramiddrop", {}),
    ("pyramiddrop, layers=[2,6,15]", "pyramiddrop", {"layers": (2, 6, 15)}),
    ("sparsevlm (3, 7, 16)", "sparsevlm", {}),
    ("fitprune, published recipes", "fitprune", {}),
    ("two_stage: divprune, fastv", "two_stage", {}),
    ("vtw", "vtw", {}),
)


def main() -> str:
    """The generated part of the page."""
    head = ["method", "budget.mode", *(f"keep={keep}" for keep in KEEPS)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for label, name, options in METHODS:
        method = build_method(name, **options)
        for mode in ("at_stage", "layer_average"):
            stages = method.averaged(DEPTH) if mode == "layer_average" else method.stages(DEPTH)
            lines.append(f"| {' | '.join([label, mode, *_cells(stages)])} |")
    return "\n".join(lines)


def _cells(stages: Sequence[Stage]) -> Iterator[str]:
    for keep in KEEPS:
        try:
            counts = processed(stages, keep, TOTAL, DEPTH)
        except UsageError:
            yield "refused"
            continue
        runs = [(count, len(list(run))) for count, run in groupby(counts)]
        shown = (
            ", ".join(f"{count} x {layers}" for count, layers in runs)
            if len(runs) < 6
            else f"{runs[0][0]} ... {runs[-1][0]}"
        )
        yield f"{shown}: **{equivalent_tokens(counts):.1f}**"


if __name__ == "__main__":
    print(main())
