"""Timing by the thread's own processor time, and tables with the machine's name."""

from __future__ import annotations

import itertools
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch

from unibench.inference.environment import code_version

RESULTS = Path(__file__).resolve().parents[1] / "results" / "bench"
CLOCK = (
    "Times are processor time of the one thread that computes, so that other programs on the"
    " machine count little."
)


def seconds(run: Callable[[], object]) -> float:
    """Processor seconds of this thread; torch must run on one."""
    start = time.thread_time()
    run()
    return time.thread_time() - start


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a few ratios."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{short(self.middle)} ({short(self.low)}-{short(self.high)})"


def spread(values: Sequence[float]) -> Spread:
    """Median with quartiles."""
    low, _, high = (
        quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    )
    return Spread(median(values), low, high)


def median_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Median with its 95 % bootstrap interval."""
    draws = np.median(np.random.default_rng(0).choice(ratios, (5000, len(ratios))), axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return median(ratios), float(low), float(high)


def short(value: float) -> str:
    """Three digits.

    >>> short(0.01234), short(12.345), short(123.45)
    ('0.0123', '12.3', '123')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def exponent(counts: Sequence[int], values: Sequence[float]) -> str:
    """Growth from one count to the next: the power of N that explains it."""
    pairs = list(zip(counts, values, strict=True))
    steps = itertools.pairwise(pairs)
    return ", ".join(
        f"{math.log(b / a) / math.log(m / n):.2f}" if min(a, b) > 0 else "-"
        for (n, a), (m, b) in steps
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [
        f"| {' | '.join(cells)} |"
        for cells in (heads, ["---"] + ["---:"] * (len(heads) - 1), *rows)
    ]


def machine() -> str:
    """Processor, threads and versions."""
    processor = (
        Path("/proc/cpuinfo")
        .read_text(encoding="utf-8")
        .split("model name")[1]
        .splitlines()[0]
        .strip(" :\t")
    )
    versions = f"torch {torch.__version__}, unibench {code_version()}"
    return f"Machine: {processor}, {torch.get_num_threads()} thread, no GPU, {versions}."


def write(name: str, lines: Sequence[str]) -> None:
    """Print a page and store it under ``results/bench``."""
    command = f"python -m benchmarks.{shlex.join([name, *sys.argv[1:]])}"
    text = "\n".join([*lines, "", machine(), "", f"    {command}", ""])
    print(text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
