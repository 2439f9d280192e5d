"""The real harnesses in a real worker, on stand-ins in their official formats."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.scoring import score
from tests.harness.standins import write
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.identity import cell_of
from unibench.store import CellFolder

pytestmark = pytest.mark.slow
SIZE = 24
SHORT = "generation.max_new_tokens=8"
THREE = {"vlmevalkit": ("mme", "pope", "mmstar"), "lmms_eval": ("mme", "pope", "ocrbench")}
CAPTIONS = ("coco_cap", "nocaps", "flickr30k")


def cards(harness: str) -> dict[str, str]:
    """Official names by task, of the benchmarks that rules alone score."""
    found = {}
    for path in sorted((Path(__file__).parents[2] / "configs" / "task").glob("*.yaml")):
        if path.stem in ("synthvqa", "folder", "videomme", "vinoground", *CAPTIONS):
            continue
        (config,) = compose_cells([f"task={path.stem}", *JUDGE], sweep=False)
        card = getattr(config.task, harness)
        if card is not None and card.judges[0] != "endpoint":
            found[path.stem] = card.name
    return found


JUDGE = ("harness_options.judge.url=http://127.0.0.1:9/v1", "harness_options.judge.model=nobody")


def run(harness: str, tasks: Iterable[str], folder: Path, *words: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by task and method, all of one command."""
    command = [
        "-m",
        f"task={','.join(tasks)}",
        f"harness={harness}",
        f"task.data={folder / 'data'}",
        SHORT,
        f"out={folder / 'out'}",
        *words,
    ]
    assert main(command) == 0
    found = [json.loads(file.read_text()) for file in (folder / "out").rglob("metrics.json")]
    return {(row["task"], row["method"]): row for row in found if row["harness"] == harness}


def samples(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {sample["id"]: sample for sample in map(json.loads, (Path(row["folder"]) / "samples.jsonl").read_text().splitlines())}


def check(harness: str, name: str, folder: Path, row: dict[str, Any]) -> None:
    """A row's numbers are those of a computation that imports no harness."""
    answers = {key: sample["answer"] for key, sample in samples(row).items()}
    (config,) = compose_cells([f"task={row['task']}", f"harness={harness}", *JUDGE], sweep=False)
    expected = score(harness, name, folder / "data", answers)
    for metric in getattr(config.task, harness).metrics:
        assert row["metrics"][metric.name]["score"] == pytest.approx(sum(expected[key] for key in metric.path), abs=1e-6), metric.name


def end_to_end(harness: str, tasks: dict[str, str], folder: Path) -> None:
    write(folder / "data", harness, tasks.values(), SIZE)
    rows = run(harness, tasks, folder)
    assert rows.keys() == {(task, method) for task in tasks for method in ("vanilla", "divprune")}
    differs = 0
    for task, name in tasks.items():
        for method in ("vanilla", "divprune"):
            row = rows[task, method]
            check(harness, name, folder, row)
            assert row["kept_max"] == row["tokens_in"] if method == "vanilla" else row["kept_max"] < 0.2 * row["tokens_in"]
        pruned, vanilla = (samples(rows[task, method]) for method in ("divprune", "vanilla"))
        assert [sample["prompt"] for sample in pruned.values()] == [sample["prompt"] for sample in vanilla.values()]
        differs += any(pruned[key]["answer"] != vanilla[key]["answer"] for key in vanilla)
    assert differs


@pytest.mark.ci_slow
@pytest.mark.parametrize("harness", THREE)
def test_three_benchmarks_in_one_worker(harness: str, tmp_path: Path) -> None:
    end_to_end(harness, {task: cards(harness)[task] for task in THREE[harness]}, tmp_path)


@pytest.mark.parametrize("harness", THREE)
def test_every_benchmark_without_a_judge(harness: str, tmp_path: Path) -> None:
    end_to_end(harness, cards(harness), tmp_path)


@pytest.mark.parametrize("harness", THREE)
def test_a_vanilla_answer_is_never_served_to_a_pruned_run(harness: str, tmp_path: Path) -> None:
    """The store's vanilla answers are poisoned: they must come back in the vanilla cell, and nowhere else."""
    write(tmp_path / "data", harness, [cards(harness)["pope"]], 6)
    pruned = run(harness, ["pope"], tmp_path)["pope", "divprune"]
    poisoned = run(harness, ["pope"], tmp_path)["pope", "vanilla"]
    file = Path(poisoned["folder"]) / "samples.jsonl"
    lines = [{**json.loads(line), "answer": "poison"} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for row in (pruned, poisoned):
        (Path(row["folder"]) / "metrics.json").unlink()
    (Path(pruned["folder"]) / "samples.jsonl").unlink()
    again = run(harness, ["pope"], tmp_path)
    assert {sample["answer"] for sample in samples(again["pope", "vanilla"]).values()} == {"poison"}
    assert again["pope", "vanilla"]["metrics"]["accuracy"]["score"] != poisoned["metrics"]["accuracy"]["score"] or poisoned["score"] == 0
    fresh = samples(again["pope", "divprune"])
    assert len(fresh) == 6 and all(sample["answer"] != "poison" and sample["kept"] < 50 for sample in fresh.values())
    assert again["pope", "divprune"]["score"] == pruned["score"]


@pytest.mark.parametrize("harness", THREE)
def test_a_run_continues_at_the_sample(harness: str, tmp_path: Path) -> None:
    write(tmp_path / "data", harness, [cards(harness)["pope"]], 6)
    row = run(harness, ["pope"], tmp_path, "method=vanilla")["pope", "vanilla"]
    file = Path(row["folder"]) / "samples.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2] + lines[4:]))
    for name in ("metrics.json", "harness.json"):
        (file.parent / name).unlink()
    again = run(harness, ["pope"], tmp_path, "method=vanilla")["pope", "vanilla"]
    kept = file.read_text().splitlines(keepends=True)
    assert [kept[place] for place in (0, 1, 4, 5)] == [lines[place] for place in (0, 1, 4, 5)]
    assert again["metrics"] == row["metrics"] and again["prompts"] == row["prompts"]


@pytest.mark.parametrize("harness", THREE)
def test_the_harness_s_own_model_object_reads_the_same_prompts(harness: str, tmp_path: Path) -> None:
    write(tmp_path / "data", harness, [cards(harness)["pope"]], 6)
    ours = run(harness, ["pope"], tmp_path)
    for method in ("vanilla", "divprune"):
        (config,) = compose_cells(
            ["task=pope", f"harness={harness}", f"task.data={tmp_path / 'data'}", SHORT, f"method={method}", f"out={tmp_path / 'out'}",
             "harness_options.wrapper=native"], sweep=False)  # fmt: skip
        assert CellFolder(cell_of(config)).row() is None
    native = run(harness, ["pope"], tmp_path / "native", "harness_options.wrapper=native", f"task.data={tmp_path / 'data'}")
    for method in ("vanilla", "divprune"):
        row = native["pope", method]
        assert row["wrapper"] == "native" and row["prompts"] == ours["pope", method]["prompts"]
        assert row["kept_max"] == row["tokens_in"] if method == "vanilla" else row["kept_max"] < 0.2 * row["tokens_in"]
