"""What unibench costs beside the bare model: interleaved pairs, median ratio and interval.

python -m benchmarks.overhead
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence

from unibench._compat import repair_torchvision

repair_torchvision()

import torch

from benchmarks._prefill import inputs_of, prefill, reduced, remembered_vision
from benchmarks._report import CLOCK, median_interval, seconds, table, write
from unibench import prune
from unibench.cli.progress import Progress
from unibench.compose import compose_cells
from unibench.identity import cell_of
from unibench.inference.ask import answer
from unibench.inference.environment import environment
from unibench.models import LoadedModel, load
from unibench.profile.passes import KeepAll
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


def with_runner(loaded: LoadedModel, samples: Sequence[Sample]) -> float:
    """The same through hooks, clocks, records, files and the progress line; seconds of what is done
    once per cell.
    """
    start = time.thread_time()
    with tempfile.TemporaryDirectory() as out:
        (config,) = compose_cells(["method=vanilla", f"out={out}"], sweep=False)
        cell = cell_of(config)
        folder, progress = CellFolder(cell), Progress()
        progress.begin(cell, 0, len(samples))
        with folder.appending(environment(loaded.device)):
            setup = time.thread_time() - start  # configuration, config.yaml, env.json
            for record in answer(cell, SynthVQA(), loaded, enumerate(samples)):
                folder.append(record.as_json())
                progress.step(record)
    return setup


def pairs_of(sides: dict[str, Callable[[], float]], count: int) -> list[float]:
    """Second side over first, in random order within each pair; each side gives its seconds."""
    order, (base, other) = random.Random(0), sides
    for run in sides.values():
        run()
    ratios = []
    for _ in range(count):
        taken = {name: sides[name]() for name in order.sample(sorted(sides), 2)}
        ratios.append(taken[other] / taken[base])
    return ratios


def runner_beside_bare(count: int, number: int) -> list[float]:
    """The whole runner on the default model, without what it does once per cell."""
    (config,) = compose_cells([], sweep=False)
    loaded, samples = load(config.model), list(SynthVQA().samples(number))

    def runner() -> float:
        taken = seconds(lambda: setups.append(with_runner(loaded, samples)))
        return taken - setups[-1]

    setups: list[float] = []
    return pairs_of(
        {"bare": lambda: seconds(lambda: bare(loaded, samples)), "runner": runner}, count
    )


def keep_all_beside_vanilla(count: int) -> list[float]:
    """Prefill of a language model of 0.5 B through a cut that keeps everything, beside the
    untouched model.
    """
    loaded = reduced(
        "internvl3_1b", "pixels=one_tile", "model.architecture.vision_config.num_hidden_layers=2"
    )
    inputs = inputs_of(loaded, (448, 448))
    run = prefill(loaded, inputs)

    def kept() -> float:
        with prune(loaded.model, KeepAll()):
            return seconds(run)

    with remembered_vision(loaded, inputs), torch.inference_mode():
        return pairs_of({"vanilla": lambda: seconds(run), "keep-all": kept}, count)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--samples", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    prefills = "keep-all / vanilla, prefill (InternVL3-1B, 24 layers, 256 visual tokens, bfloat16)"
    samples = f"runner / bare generate loop (tiny Qwen2.5-VL, {arguments.samples} samples)"
    measured = {
        (prefills, "1.01"): keep_all_beside_vanilla(arguments.pairs),
        (samples, "1.03"): runner_beside_bare(arguments.pairs, arguments.samples),
    }
    rows = []
    for (name, target), ratios in measured.items():
        middle, low, high = median_interval(ratios)
        rows.append([name, target, f"{middle:.4f}", f"{low:.4f}-{high:.4f}", str(len(ratios))])
    lines = [
        "# What unibench adds",
        "",
        (
            "Pairs in random order within one run, median ratio with its 95 % bootstrap interval."
            f" {CLOCK}"
        ),
        "",
        *table(["ratio", "target", "median", "95 %", "pairs"], rows),
    ]
    write("overhead", lines)


if __name__ == "__main__":
    main()
