"""``python -m tests.harness.runs <folder> > results/harness_runs.md``: the runs that the slow tests
left, as one table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.harness.running import METHODS, card

LEFT = (
    "test_every_benchmark_*",
    "test_captions_*",
    "test_benchmarks_that_papers_*",
    "test_an_outage_*",
    "test_video_benchmarks_*",
    "test_every_video_*",
    "test_coco_*",
)
HARNESSES = {"vlmevalkit": "VLMEvalKit", "lmms_eval": "lmms-eval"}
HEAD = """# Benchmarks end to end in both harnesses

    OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 1 -m slow --basetemp=outputs/harness tests/harness     # results/logs/test_full.log
    .venv/bin/python -m tests.harness.runs outputs/harness > results/harness_runs.md

> **Toy models on stand-ins.** The models have a few million parameters or random weights, the questions are drawn by this repository in
> the official formats (`tests/harness/standins`). The table shows that the path from a table of questions to a score works, in the real
> harnesses and through the worker; its numbers say nothing about any benchmark, model or method.

Scores are the harness's own; the tests found each equal to a computation that imports no harness. *Differ*: answers that DivPrune at
0.889 changes. `tiny_...` is a trained tiny model, `random ...` a small random checkpoint of an architecture, which answers nothing
right; on Vinoground's and lmms-eval's caption questions, forms that it was not taught, neither does the tiny model. A stand-in of a judge
scores MathVista, MathVision and MIA-Bench.
"""


def main(folder: Path) -> None:
    lines = sorted(_lines(folder))
    counts = {
        harness: len({line[1] for line in lines if line[0] == harness})
        for harness in HARNESSES.values()
    }
    print(HEAD)
    print(", ".join(f"{harness}: {count} benchmarks" for harness, count in counts.items()) + ".\n")
    head = (
        "harness",
        "benchmark",
        "model",
        "scope",
        "metric",
        "vanilla",
        "divprune",
        "n",
        "differ",
    )
    for line in (head, ["---"] * len(head), *lines):
        print("| " + " | ".join(line) + " |")


def _lines(folder: Path) -> Iterator[tuple[str, ...]]:
    for place in (
        path for name in LEFT for path in folder.glob(f"*/{name}") if not path.is_symlink()
    ):
        for out in (path for path in place.iterdir() if path.is_dir()):
            yield from _pairs(out)


def _pairs(out: Path) -> Iterator[tuple[str, ...]]:
    """Lines of the cells below one ``out=``."""
    found: dict[str, dict[str, Path]] = {}
    for file in out.glob("*/*/*/*/metrics.json"):
        found.setdefault(file.parts[-4], {})[file.parts[-3].partition("@")[0]] = file.parent
    for task, cells in found.items():
        vanilla, pruned = (
            json.loads((cells[method] / "metrics.json").read_text()) for method in METHODS
        )
        answers = [_answers(cells[method]) for method in METHODS]
        differ = sum(answers[0][key] != answers[1][key] for key in answers[0])
        side = card(task, vanilla["harness"])
        assert side is not None
        model = (
            vanilla["model"]
            if vanilla["model"].startswith("tiny_")
            else f"random {vanilla['family']}"
        )
        scores = [f"{row['score']:.4g}" for row in (vanilla, pruned)]
        named = (
            HARNESSES[vanilla["harness"]],
            side.name,
            model,
            _scope(cells["divprune"]),
            side.metrics[0].name,
        )
        yield *named, *scores, str(vanilla["n"]), str(differ)


def _answers(cell: Path) -> dict[str, Any]:
    return {
        sample["id"]: sample["answer"]
        for sample in map(json.loads, (cell / "samples.jsonl").read_text().splitlines())
    }


def _scope(cell: Path) -> str:
    (line,) = (
        line
        for line in (cell / "config.yaml").read_text().splitlines()
        if line.strip().startswith("scope:")
    )
    return line.partition(":")[2].strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
