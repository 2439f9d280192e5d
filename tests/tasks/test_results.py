"""The table of toy results is made from rows of a store, and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.synthvqa_results import rows_of, table


def row(folder: Path, method: str, ratio: float, seed: int, reading: float, task: str = "synthvqa") -> None:
    abilities = {"reading": {"n": 200, "score_100": reading}, "counting": {"n": 200, "score_100": 50.0}}
    shown = {"task": task, "model": "tiny", "method": method, "ratio": ratio, "seed": seed, "n": 400, "abilities": abilities}
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(shown))


def test_seeds_are_averaged_and_vanilla_has_intervals(tmp_path: Path) -> None:
    row(tmp_path / "a", "vanilla", 0.0, 0, 90.0)
    row(tmp_path / "b", "random_pre", 8 / 9, 0, 10.0)
    row(tmp_path / "c", "random_pre", 8 / 9, 1, 20.0)
    row(tmp_path / "d", "vanilla", 0.0, 0, 1.0, task="folder")
    lines = table(rows_of(tmp_path)).splitlines()
    assert lines[2] == "| vanilla | 0 | 400 | 0 | 90.0 (85-93) | 50.0 (43-57) | 70.0 |"
    assert lines[3] == "| random_pre | 0.889 | 400 | 0, 1 | 15.0 | 50.0 | 32.5 |"
    assert len(lines) == 4
