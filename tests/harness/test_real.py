"""The real harnesses in a real worker, on stand-ins in their official formats."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness import standins
from tests.harness.running import (
    HARNESSES,
    METHODS,
    SHORT,
    assert_end_to_end,
    assert_scores,
    cards,
    run,
)
from tests.harness.standins import write
from unibench.compose import compose_cells
from unibench.identity import cell_of
from unibench.store import CellFolder

pytestmark = pytest.mark.slow
SIZE = 24  # questions per table
THREE = {"vlmevalkit": ("mme", "pope", "mmstar"), "lmms_eval": ("mme", "pope", "ocrbench")}
CAPTIONS = {"coco_cap": "coco2017_cap_val", "nocaps": "nocaps_val", "flickr30k": "flickr30k_test"}


def end_to_end(harness: str, tasks: Mapping[str, str], folder: Path, size: int = SIZE) -> None:
    write(folder / "data", harness, tasks.values(), size)
    assert_end_to_end(run(harness, tasks, folder), tasks)


@pytest.mark.ci_slow
@pytest.mark.parametrize("harness", HARNESSES)
def test_three_benchmarks_in_one_worker(harness: str, tmp_path: Path) -> None:
    end_to_end(harness, {task: cards(harness)[task] for task in THREE[harness]}, tmp_path, 12)


@pytest.mark.parametrize("harness", HARNESSES)
def test_every_benchmark_that_rules_score(harness: str, tmp_path: Path) -> None:
    tasks = cards(harness)
    assert len(tasks) >= 20
    end_to_end(harness, tasks, tmp_path)


@pytest.mark.parametrize("harness", HARNESSES)
def test_benchmarks_that_papers_ask_are_asked_and_scored(harness: str, tmp_path: Path) -> None:
    """A handful of questions each. The tiny model has no answer to some, so that of the scores only
    their being the right ones is asked.
    """
    tasks = cards(harness, of_papers=True)
    assert sorted(tasks.values()) == sorted(standins.OF_PAPERS[harness])
    write(tmp_path / "data", harness, tasks.values(), 8)
    cells = run(harness, tasks, tmp_path)
    assert cells.rows.keys() == {(task, method) for task in tasks for method in METHODS}
    for task, name in tasks.items():
        for method in METHODS:
            assert_scores(cells, task, name, method)
            assert cells.rows[task, method]["n"] == len(cells.samples(task, method)) == 8
        vanilla, pruned = (cells.samples(task, method) for method in METHODS)
        assert [one["prompt"] for one in pruned.values()] == [
            one["prompt"] for one in vanilla.values()
        ], task
        assert all(one["kept"] == one["visual_tokens"] for one in vanilla.values()), task
        assert all(one["kept"] < 0.2 * one["visual_tokens"] for one in pruned.values()), task
    right = [task for task in tasks if cells.rows[task, "vanilla"]["score_100"] > 0]
    assert 3 * len(right) >= len(tasks), right


@pytest.mark.java
def test_captions_that_java_scores(tmp_path: Path) -> None:
    end_to_end("lmms_eval", CAPTIONS, tmp_path)


@pytest.mark.parametrize("harness", HARNESSES)
def test_a_vanilla_answer_is_never_served_to_a_pruned_run(harness: str, tmp_path: Path) -> None:
    """Vanilla answers are poisoned in the store, and lie as the harness's own leftovers where the
    pruned run works.

    They must come back in the vanilla cell, and nowhere else.
    """
    name = cards(harness)["pope"]
    write(tmp_path / "data", harness, [name], 6)
    before = run(harness, ["pope"], tmp_path)
    folders = {method: Path(before.rows["pope", method]["folder"]) for method in METHODS}
    file = folders["vanilla"] / "samples.jsonl"
    lines = [{**json.loads(line), "answer": "poison"} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for folder in folders.values():
        (folder / "metrics.json").unlink()
    (folders["divprune"] / "samples.jsonl").unlink()
    leftovers = folders["divprune"] / "harness" / "work"
    leftovers.mkdir(parents=True)
    poison = {int(line["id"]): "poison" for line in lines}
    for part in (f"01_{name}.pkl", f"unibench_{name}_PREV.pkl"):  # what VLMEvalKit takes up again
        (leftovers / part).write_bytes(pickle.dumps(poison))
    table = "".join(f"{index}\t{answer}\n" for index, answer in poison.items())
    (leftovers / f"unibench_{name}.tsv").write_text(f"index\tprediction\n{table}")

    again = run(harness, ["pope"], tmp_path)
    assert set(again.answers("pope", "vanilla").values()) == {"poison"}
    assert (
        again.rows["pope", "vanilla"]["metrics"]["precision"]["score"]
        == 0
        < before.rows["pope", "vanilla"]["metrics"]["precision"]["score"]
    )
    assert again.answers("pope", "divprune") == before.answers("pope", "divprune")
    assert all(sample["kept"] == 16 for sample in again.samples("pope", "divprune").values())
    assert again.rows["pope", "divprune"]["metrics"] == before.rows["pope", "divprune"]["metrics"]
    assert not [
        path for path in tmp_path.rglob("*") if path.suffix in (".db", ".sqlite", ".pkl")
    ]  # no cache of the harness's own is left


@pytest.mark.parametrize("harness", HARNESSES)
def test_a_run_continues_at_the_sample(harness: str, tmp_path: Path) -> None:
    write(tmp_path / "data", harness, [cards(harness)["pope"]], 6)
    row = run(harness, ["pope"], tmp_path, "method=vanilla").rows["pope", "vanilla"]
    file = Path(row["folder"]) / "samples.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2] + lines[4:]))
    for name in ("metrics.json", "harness.json"):
        (file.parent / name).unlink()
    again = run(harness, ["pope"], tmp_path, "method=vanilla").rows["pope", "vanilla"]
    kept = file.read_text().splitlines(keepends=True)
    assert [kept[place] for place in (0, 1, 4, 5)] == [lines[place] for place in (0, 1, 4, 5)]
    assert again["metrics"] == row["metrics"] and again["prompts"] == row["prompts"]


@pytest.mark.parametrize("harness", HARNESSES)
def test_the_harness_s_own_model_object_reads_the_same_prompts(
    harness: str, tmp_path: Path
) -> None:
    write(tmp_path / "data", harness, [cards(harness)["pope"]], 6)
    ours = run(harness, ["pope"], tmp_path).rows
    for method in METHODS:
        (config,) = compose_cells(
            ["task=pope", f"harness={harness}", f"task.data={tmp_path / 'data'}", SHORT, f"method={method}", f"out={tmp_path / 'out'}",
             "harness_options.wrapper=native"], sweep=False)  # fmt: skip
        assert CellFolder(cell_of(config)).row() is None
    native = run(harness, ["pope"], tmp_path, "harness_options.wrapper=native", out="native").rows
    for method in METHODS:
        row = native["pope", method]
        assert row["wrapper"] == "native" and row["prompts"] == ours["pope", method]["prompts"]
        assert (
            row["kept_max"] == row["tokens_in"]
            if method == "vanilla"
            else row["kept_max"] < 0.2 * row["tokens_in"]
        )
