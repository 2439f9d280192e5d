"""The harnesses' own commands against unibench, call by call and score by score.

python -m benchmarks.harness_parity
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks._report import RESULTS
from tests.harness.parity import CARDS, QUESTIONS, RATIO, TASKS, Call, asked_for, entry_of
from unibench.benchmark import DISTRIBUTIONS

METHODS = ("vanilla", "divprune")
PAGE = RESULTS.parent / "harness_parity.md"
HEAD = """# The harnesses' own commands and unibench, call by call

    {command}

On one side VLMEvalKit's loop (`infer_data_job`), files and `evaluate`, or lmms-eval's evaluator,
with the harness's own model class, which loads a small random checkpoint of the family by itself;
on the other unibench with `convention=harness`. {versions}. Two classes cannot be loaded here,
since their code is on no index: VLMEvalKit's `LLaVA` and lmms-eval's `llava` (package `llava`),
and VLMEvalKit's `InternVLChat` (OpenGVLab's remote code). They run, with everything that the
harness has of them, on those functions written again for the test (`tests/harness/shims.py`),
apart from unibench's. Of the resize by PIL alone both take transformers'.

## Calls

Calls of `generate` with the same token ids, pixels (in single precision), visual tokens, decoding
(length, repetition penalty, beams) and answer. Under *divprune* the harness's own model is pruned
by `unibench.prune(model, "divprune", ratio={ratio})`. *Scores*: numbers of the harness's results
that are equal, of those that both sides name, the card's metrics among them.
"""
SCORES = """
## Scores

The first metric of each task out of its best, the harness's own / unibench's. A random checkpoint
answers nothing right, so after the comparison of what it generated another answer is handed back,
right or wrong in turn: on unibench's side by the sample, on the harness's by the ids and pixels
of the call, and a call that unibench did not make is answered wrongly. {size} questions a task.
"""
Tasks = dict[str, dict[str, Any]]


def main() -> None:
    """Run the cells that are not there yet, and write the page of all that are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("outputs/parity"), help="of the cells")
    parser.add_argument("--again", action="store_true", help="run cells that are there too")
    arguments = parser.parse_args()
    failed = run(arguments.folder, again=arguments.again)
    PAGE.write_text(page(arguments.folder), encoding="utf-8")
    print(PAGE)
    raise SystemExit(1 if failed else 0)


def run(folder: Path, *, again: bool = False) -> list[str]:
    """Every cell of the matrix, each in a process of its own, since a harness changes the one that
    imports it; returns those that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for harness, family, method in product(TASKS, CARDS, METHODS):
        name = f"{harness}-{family}-{method}"
        file = folder / f"{name}.json"
        if not asked_for(harness, family) or (file.exists() and not again):
            continue
        words = [sys.executable, "-m", "tests.harness.parity", harness, family, method]
        with (folder / f"{name}.log").open("wb") as log:
            done = subprocess.run(words, stdout=subprocess.PIPE, stderr=log, check=False)
        print(f"{name}: {'done' if done.returncode == 0 else 'failed, see the log beside it'}")
        if done.returncode == 0:
            file.write_bytes(done.stdout)
        else:
            failed.append(name)
    return failed


def page(folder: Path) -> str:
    """The matrix as a page."""
    cells = dict(_cells(folder))
    versions = " and ".join(f"{name} {version(name)}" for name in DISTRIBUTIONS.values())
    lines = [
        HEAD.format(command="python -m benchmarks.harness_parity", ratio=RATIO, versions=versions)
    ]
    heads = ("harness", "family", "entry", "method", "tasks", "calls", "ids", "pixels")
    lines += _row([*heads, "visual tokens", "decoding", "answers", "scores"], head=True)
    for name, tasks in cells.items():
        numbers = [str(_total(tasks, key)) for key in ("calls", *Call.__dataclass_fields__)]
        scores = f"{_total(tasks, 'scores')} of {_total(tasks, 'numbers')}"
        lines += _row([*_named(name), str(len(tasks)), *numbers, scores])
    lines.append(SCORES.format(size=QUESTIONS))
    for harness, tasks in TASKS.items():
        lines += _row(["harness", "family", "entry", "method", *tasks], head=True)
        for name, found in cells.items():
            if name[0] == harness:
                lines += _row([*_named(name), *(_scores(found[task]) for task in tasks)])
        lines.append("")
    return "\n".join(lines)


def _cells(folder: Path) -> Iterator[tuple[tuple[str, str, str], Tasks]]:
    for harness, family, method in product(TASKS, CARDS, METHODS):
        file = folder / f"{harness}-{family}-{method}.json"
        if file.exists():
            yield (harness, family, method), json.loads(file.read_text())


def _named(name: tuple[str, str, str]) -> list[str]:
    harness, family, method = name
    return [harness, family, f"`{getattr(entry_of(CARDS[family]), harness)}`", method]


def _total(tasks: Tasks, key: str) -> int:
    return sum(same[key] for same in tasks.values())


def _scores(same: dict[str, Any]) -> str:
    """The first metric of both sides, out of 100."""
    score = same["score"]
    shown = [f"{100 * score[side] / score['best']:.4g}" for side in ("native", "unibench")]
    return " / ".join(shown)


def _row(cells: list[str], *, head: bool = False) -> list[str]:
    lines = [f"| {' | '.join(cells)} |"]
    return [*lines, "|" + "---|" * len(cells)] if head else lines


if __name__ == "__main__":
    main()
