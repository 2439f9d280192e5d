"""Which cells are scored from the pass over the data that another cell has made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unibench.compose import compose_cells
from unibench.harness.child.walk import Walk
from unibench.harness.child.workdir import WorkDirectory
from unibench.identity import Cell, cell_of

JUDGE = ("harness_options.judge.url=http://127.0.0.1:9/v1", "harness_options.judge.model=nobody")
FUSED = ("timing=false", "fuse=cells")


def cell(*words: str) -> Cell:
    (config,) = compose_cells(["task=pope", *FUSED, *words], sweep=False)
    return cell_of(config)


@pytest.fixture
def walk(tmp_path: Path) -> Walk:
    folders = WorkDirectory(tmp_path / "work", tmp_path / "lmu", tmp_path / "hf")
    for place in vars(folders).values():
        place.mkdir()
    return Walk(cell("method=vanilla").setting, folders, {"0": 0, "1": 1}, None)


def test_cells_of_the_setting_with_every_sample_are_scored_from_it(walk: Walk) -> None:
    assert walk.serves(cell("method=divprune", "ratio=0.5"), ["0", "1", "2"])
    assert not walk.serves(cell("method=divprune", "ratio=0.5"), ["0"])
    assert not walk.serves(cell("method=divprune", "prefix=A"), ["0", "1"])
    assert not walk.serves(cell("method=divprune", "harness=lmms_eval"), ["0", "1"])


def test_a_judge_reads_the_data_of_the_cell_itself(walk: Walk) -> None:
    judged = cell("method=vanilla", "task=mathvista", *JUDGE)
    own = replace(walk, setting=judged.setting)
    assert not own.serves(judged, ["0", "1"])


def test_it_ends_with_the_folders(walk: Walk) -> None:
    one = cell("method=fastv")
    assert walk.serves(one, ["0", "1"])
    walk.folders.hf.rmdir()
    assert not walk.serves(one, ["0", "1"])
