"""Whole runs of the command line on stand-ins, and what must hold of each of their rows."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness import made_up, standins
from tests.harness.scoring import Scores, score
from unibench.cli import main
from unibench.compose import CONFIGS, compose_cells
from unibench.config import HarnessTask

HARNESSES = ("vlmevalkit", "lmms_eval")
METHODS = ("vanilla", "divprune")
VIDEOS = ("videomme", "vinoground")
SHORT = "generation.max_new_tokens=8"
JUDGE = (
    "harness_options.judge.url=http://127.0.0.1:9/v1",
    "harness_options.judge.model=nobody",
)  # that a card may need to be read


def card(task: str, harness: str) -> HarnessTask | None:
    (config,) = compose_cells([f"task={task}", *JUDGE], sweep=False)
    found: HarnessTask | None = getattr(config.task, harness)
    return found


def cards(harness: str, *, of_papers: bool = False) -> dict[str, str]:
    """Official names by task, of the benchmarks of pictures that rules score with what every
    checkout has.

    Args:
        harness: that has them.
        of_papers: those of :data:`tests.harness.standins.OF_PAPERS`, otherwise the others.
    """
    found = {}
    for path in sorted((CONFIGS / "task").glob("*.yaml")):
        side = None if path.stem in ("synthvqa", "folder", *VIDEOS) else card(path.stem, harness)
        if (
            side is not None
            and side.name in standins.NAMES[harness]
            and (side.name in standins.OF_PAPERS[harness]) == of_papers
            and side.judges[0] != "endpoint"
            and "java" not in side.requires
            and not lacks(side)
        ):
            found[path.stem] = side.name
    return found


def compared(side: Any, mine: Mapping[str, float], own: Mapping[str, float]) -> set[str]:
    """The paths of two results that are compared: all of the card's, and whatever both have."""
    wanted = {path for metric in side.metrics for path in metric.path}
    assert wanted <= mine.keys() & own.keys(), wanted - (mine.keys() & own.keys())
    return mine.keys() & own.keys()


def lacks(side: HarnessTask) -> list[str]:
    """What the scoring needs and this machine has not."""
    return [
        need
        for need in side.requires
        if shutil.which(need) is None and importlib.util.find_spec(need) is None
    ]


@dataclass(frozen=True)
class Cells:
    """What one command left.

    Attributes:
        rows: by task and method.
        data: folder of the stand-ins.
        harness: which asked.
    """

    rows: dict[tuple[str, str], dict[str, Any]]
    data: Path
    harness: str

    def samples(self, task: str, method: str) -> dict[str, dict[str, Any]]:
        lines = (Path(self.rows[task, method]["folder"]) / "samples.jsonl").read_text().splitlines()
        return {sample["id"]: sample for sample in map(json.loads, lines)}

    def answers(self, task: str, method: str) -> dict[str, str]:
        return {key: sample["answer"] for key, sample in self.samples(task, method).items()}


def run(harness: str, tasks: Iterable[str], folder: Path, *words: str, out: str = "out") -> Cells:
    """Rows of one command; its stand-ins lie in ``<folder>/data``."""
    command = [
        "-m",
        f"task={','.join(tasks)}",
        f"harness={harness}",
        f"task.data={folder / 'data'}",
        SHORT,
        f"out={folder / out}",
    ]
    assert main([*command, *words]) == 0
    found = [json.loads(file.read_text()) for file in (folder / out).rglob("metrics.json")]
    return Cells(
        {(row["task"], row["method"]): row for row in found if row["harness"] == harness},
        folder / "data",
        harness,
    )


def assert_end_to_end(
    cells: Cells,
    tasks: Mapping[str, str],
    replies: Mapping[str, Mapping[str, Mapping[str, str]]] | None = None,
) -> None:
    """Of each task: scores computed again without a harness, right and wrong answers, one that
    pruning changes.

    Args:
        cells: vanilla and pruned rows.
        tasks: official names by task.
        replies: of a judge, by task and method.
    """
    assert cells.rows.keys() == {(task, method) for task in tasks for method in METHODS}
    for task, name in tasks.items():
        said = {method: (replies or {}).get(task, {}).get(method) for method in METHODS}
        scores = {
            method: assert_scores(cells, task, name, method, said[method]) for method in METHODS
        }
        faultless = best(cells, task, name)
        assert any(number > 0 for number in scores["vanilla"].values()), (
            f"{task}: no right answer without pruning"
        )
        found = [
            (metric, number)
            for of_method in scores.values()
            for metric, number in of_method.items()
        ]
        assert any(0 < number < faultless[metric] for metric, number in found), (
            f"{task}: no right or no wrong answer"
        )
        vanilla, pruned = (cells.samples(task, method) for method in METHODS)
        assert [sample["prompt"] for sample in pruned.values()] == [
            sample["prompt"] for sample in vanilla.values()
        ], task
        assert any(pruned[key]["answer"] != vanilla[key]["answer"] for key in vanilla), (
            f"{task}: pruning changed no answer"
        )
        assert all(sample["kept"] == sample["visual_tokens"] for sample in vanilla.values()), task
        assert all(sample["kept"] < 0.2 * sample["visual_tokens"] for sample in pruned.values()), (
            task
        )


def assert_scores(
    cells: Cells, task: str, name: str, method: str, replies: Mapping[str, str] | None = None
) -> dict[str, float]:
    """A row's numbers are those of a computation that imports no harness; returns them."""
    row = cells.rows[task, method]
    again = score(cells.harness, name, cells.data, cells.answers(task, method), replies)
    numbers = _numbers(task, cells.harness, again)
    for metric, number in numbers.items():
        assert row["metrics"][metric]["score"] == pytest.approx(number, abs=1e-6), (
            f"{task}: {metric}"
        )
    return numbers


def best(cells: Cells, task: str, name: str) -> dict[str, float]:
    """The metrics if every answer were the right one."""
    right = made_up.answers(cells.harness, name, cells.data, ["{right}"])
    verdicts = {sample: made_up.verdict(answer.upper()) for sample, answer in right.items()}
    return _numbers(task, cells.harness, score(cells.harness, name, cells.data, right, verdicts))


def _numbers(task: str, harness: str, scores: Scores) -> dict[str, float]:
    side = card(task, harness)
    assert side is not None
    return {metric.name: sum(scores[key] for key in metric.path) for metric in side.metrics}
