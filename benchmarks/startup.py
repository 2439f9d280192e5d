"""How long the command line takes to answer, and the default run to its first sample.

python -m benchmarks.startup
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks._report import spread, table, write
from unibench.cli.main import VERBS

QUICK = (
    ["--help"],
    ["list", "methods"],
    ["plan", "-m", "method=divprune,fastv", "ratio=0.667,0.889"],
)
FIRST = ["task.limit=1", "method=vanilla"]


def processor_seconds(words: Sequence[str]) -> float:
    """User and system seconds of a command, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "unibench", *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for words in QUICK:
        if words[0] in VERBS or words[0].startswith("-"):
            taken = [processor_seconds(words) for _ in range(arguments.repeats)]
            rows.append([f"`{' '.join(words)}`", "1", str(spread(taken))])
    with tempfile.TemporaryDirectory() as out:
        taken = [
            processor_seconds([*FIRST, f"out={Path(out, str(number))}"])
            for number in range(arguments.repeats)
        ]
    rows.append(
        ["the default run until its first sample is answered and stored", "10", str(spread(taken))]
    )
    lines = [
        "# Start-up",
        "",
        (
            f"Processor seconds of a whole command, user and system, {arguments.repeats} repeats,"
            " median (quartiles). On an idle machine"
        ),
        "that is the time that passes.",
        "",
        *table(["command", "at most", "seconds"], rows),
    ]
    write("startup", lines)


if __name__ == "__main__":
    main()
