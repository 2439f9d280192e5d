"""Benchmarks that a harness has and no card describes."""

from __future__ import annotations

from pathlib import Path

import pytest

from unibench import catalogue
from unibench.benchmark import benchmark_of
from unibench.compose import compose_cells
from unibench.errors import UsageErrors
from unibench.identity import cell_of


def cells(*words: str) -> list:  # type: ignore[type-arg]
    return compose_cells(["model=tiny_qwen2_5_vl", *words], sweep=True)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two harnesses with a few names, whatever is installed."""
    known = {"vlmevalkit": frozenset({"AMBER", "BLINK"}), "lmms_eval": frozenset({"mmvet"})}
    monkeypatch.setattr(catalogue, "names", known.__getitem__)


@pytest.mark.parametrize(
    ("word", "harness", "name"),
    [("vlmevalkit:AMBER", "vlmevalkit", "AMBER"), ("lmms_eval:mmvet", "lmms_eval", "mmvet")],
)
def test_a_benchmark_is_asked_under_the_harness_s_name(word: str, harness: str, name: str) -> None:
    (cell,) = cells(f"task={word}")
    found = benchmark_of(cell)
    assert found is not None and (found.harness, found.card.name) == (harness, name)
    assert cell.task.name == name and found.card.metrics == []


@pytest.mark.parametrize(
    ("word", "modality"),
    [
        ("vlmevalkit:BLINK_8frame", "video"),
        ("vlmevalkit:BLINK", "image"),
        ("lmms_eval:mmvet", "image"),
        ("lmms_eval:included", "video"),
    ],
)
def test_a_benchmark_of_videos_is_known_as_one(
    word: str, modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").write_text("dataset_path: someone/videos\ndataset_kwargs:\n  video: True\n")
    files = {"included": tmp_path / "included.yaml", "mmvet": tmp_path / "mmvet.yaml"}
    files["included"].write_text("include: base\ntask: included\n")
    files["mmvet"].write_text("dataset_path: someone/pictures\ntask: mmvet\n")
    monkeypatch.setattr(catalogue, "_task_files", lambda: files)
    known = {"vlmevalkit": frozenset({"BLINK"}), "lmms_eval": frozenset(files)}
    monkeypatch.setattr(catalogue, "names", known.__getitem__)
    (cell,) = cells(f"task={word}")
    assert cell.task.modality == modality


def test_several_stand_side_by_side_in_a_grid_under_keys_of_their_own() -> None:
    found = cells("task=vlmevalkit:AMBER,vlmevalkit:BLINK,pope")
    assert [cell.task.name for cell in found] == ["AMBER", "BLINK", "pope"]
    assert len({cell_of(cell).key for cell in found}) == 3


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("vlmevalkit:AMBR", "vlmevalkit has no benchmark 'AMBR'. Did you mean AMBER?"),
        ("amber", "A harness has it: task=vlmevalkit:AMBER"),
        ("MMVet", "A harness has it: task=lmms_eval:mmvet"),
        ("./none.yaml", "task=none.yaml: No such file"),
    ],
)
def test_an_unknown_task_says_where_it_may_be_found(word: str, said: str) -> None:
    with pytest.raises(UsageErrors, match=said.replace("?", "[?]")):
        cells(f"task={word}")


def test_a_card_may_lie_outside_the_checkout(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("kind: harness\nvlmevalkit: {name: BLINK, metrics: [{name: accuracy, path: [Overall]}]}\n")  # fmt: skip
    (cell,) = cells(f"task={file}")
    found = benchmark_of(cell)
    assert cell.task.name == "mine" and found is not None
    assert [metric.name for metric in found.card.metrics] == ["accuracy"]
