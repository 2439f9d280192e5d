"""The lines that tell how far a grid is."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.support.records import record
from unibench.cli import main
from unibench.cli.progress import Progress
from unibench.identity import Cell
from unibench.inference.row import Row


def cell(key: str) -> Cell:
    return cast(Cell, SimpleNamespace(key=key, title=f"cell {key}"))


def row(key: str) -> Row:
    return cast(Row, SimpleNamespace(key=key))


def test_a_cell_that_others_answered_prints_no_line_of_the_one_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress(0)
    progress.begin(cell("a"), 0, 1)
    progress.step(record())
    for key in ("a", "b", "c"):
        progress.end(row(key))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["[0] cell a", "[0] cell a: 1/1"]


def test_a_grid_is_counted_with_what_was_there_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["method=l2norm,uniform_grid", "task.limit=1", f"out={tmp_path}"]
    assert main(["method=l2norm", *words[1:]]) == 0
    assert "[1 of 2] tiny_qwen2_5_vl x vanilla" in capsys.readouterr().err
    assert main(["-m", *words]) == 0
    said = capsys.readouterr().err
    assert "[3 of 3] tiny_qwen2_5_vl x uniform_grid 0.889" in said and "left" not in said


def test_after_each_cell_the_time_of_all_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(cells=3)
    progress.begin(cell("a"), 0, 1)
    progress.step(record())
    progress.end(row("a"))
    assert re.search(
        r"\[1 of 3\] cell a: 1/1, .*; all cells: about \S+ left", capsys.readouterr().err
    )
    progress.failed(cell("b"), "why")
    progress.begin(cell("c"), 0, 1)
    assert "[3 of 3] cell c" in capsys.readouterr().err
