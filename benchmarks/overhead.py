"""What the runner costs beside a bare generate loop: interleaved pairs on the same samples, median ratio and interval.

python benchmarks/overhead.py --pairs 40
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from unibench._compat import repair_torchvision

repair_torchvision()

import numpy as np
import torch

from unibench.api import build_method
from unibench.cli.progress import Progress
from unibench.compose import compose_cells
from unibench.identity import cell_of
from unibench.models import LoadedModel, load
from unibench.runner.environment import environment
from unibench.runner.evaluate import Setting, answer
from unibench.store import CellFolder
from unibench.tasks import Sample
from unibench.tasks.synthvqa import SynthVQA


def bare(loaded: LoadedModel, samples: Sequence[Sample]) -> None:
    """What anyone would write: processor, generate, decode, compare."""
    config = loaded.generation_config(8, 1.0)
    right = 0
    with torch.inference_mode():
        for sample in samples:
            inputs = loaded.inputs([sample.question], [sample.images])
            out = loaded.model.generate(**inputs, generation_config=config)
            right += loaded.answers(out[:, inputs["input_ids"].shape[1] :])[0] == sample.answers[0]


def with_runner(loaded: LoadedModel, samples: Sequence[Sample]) -> None:
    """The same through hooks, clocks, records, files and the progress line."""
    with tempfile.TemporaryDirectory() as out:
        (config,) = compose_cells(["method=vanilla", f"out={out}"], sweep=False)
        cell = cell_of(config)
        folder, progress = CellFolder(cell), Progress()
        setting = Setting(build_method("vanilla"), cell.budget, "sequence", "at_stage", 0, None, 1.0, 1, 0)
        progress.begin(cell, 0, len(samples))
        start = time.perf_counter()
        with folder.appending(environment(loaded.device)):
            setup = time.perf_counter() - start  # writing config.yaml and env.json: once per cell, not per sample
            for answered in answer(loaded, SynthVQA(), iter(samples), setting):
                record = answered.as_dict()
                folder.append(record)
                progress.step(record)
        with_runner.setup = setup  # type: ignore[attr-defined]


def seconds(run: Callable[[], None]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Print the median ratio with its bootstrap interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--samples", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    (config,) = compose_cells([], sweep=False)
    loaded = load(config.model)
    samples = list(SynthVQA().samples(arguments.samples))
    sides = {"bare": lambda: bare(loaded, samples), "runner": lambda: with_runner(loaded, samples)}
    for run in sides.values():
        run()
    ratios = []
    order = random.Random(0)
    for _ in range(arguments.pairs):
        names = order.sample(sorted(sides), 2)
        taken = {name: seconds(sides[name]) for name in names}
        ratios.append((taken["runner"] - with_runner.setup) / taken["bare"])  # type: ignore[attr-defined]
    draws = np.random.default_rng(0).choice(ratios, (5000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    pairs = f"{len(ratios)} pairs of {len(samples)} samples"
    print(f"runner / bare loop: median {median(ratios):.4f}, 95 % interval {low:.4f}-{high:.4f}, {pairs}")
    processor = Path("/proc/cpuinfo").read_text().split("model name")[1].splitlines()[0].strip(" :\t")
    print(f"threads {arguments.threads}, {processor}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
