"""The tables at the end of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stats._cells import finished
from unibench.cli.showing import LISTED, print_rows
from unibench.inference.row import read_row


def shown(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_rows([read_row(folder) for folder in folders])
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_seeds_are_told_apart_and_a_remark_is_made_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [finished(tmp_path, [1.0] * 30, "method=vanilla")]
    for ratio, seed in (("0.5", 0), ("0.5", 1), ("0.75", 1)):
        words = "method=random_pre", f"ratio={ratio}", f"seed={seed}"
        folders.append(finished(tmp_path, [1.0] * 30, *words, more={"notes": ("a remark",)}))
    lines = shown(folders, capsys)
    assert sum(line.startswith("method ratio seed n score") for line in lines) == 1
    for line in ("random_pre 0.5 0 30", "random_pre 0.5 1 30", "random_pre 0.75 1 30"):
        assert any(each.startswith(line) for each in lines)
    assert lines.count("random_pre: a remark") == 1
    assert not any("pictures only" in line for line in lines)
    assert sum(str(tmp_path) in line for line in lines) == len(folders)


def test_the_folders_of_many_cells_are_named_once_and_few_samples_are_said_to_be_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [finished(tmp_path, [1.0] * 3, "method=vanilla")]
    for seed in range(LISTED):
        words = "method=random_pre", "ratio=0.5", f"seed={seed}"
        folders.append(finished(tmp_path, [1.0] * 3, *words))
    lines = shown(folders, capsys)
    (place,) = [line for line in lines if str(tmp_path) in line]
    assert place.startswith(f"{LISTED + 1} cells below {tmp_path};")
    assert any(
        line.startswith("3 pictures only: a bootstrap of so few is too narrow") for line in lines
    )


def test_questions_that_share_a_picture_are_not_counted_as_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [finished(tmp_path, [1.0] * 35, "method=vanilla", per_picture=5)]
    assert any(line.startswith("7 pictures only:") for line in shown(folders, capsys))
