"""``plan`` says what a run would do, quickly and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers import Scripted, grid
from unibench import hub
from unibench.cli import main
from unibench.identity import Cell
from unibench.inference.row import Row
from unibench.registry import ROOT
from unibench.runner import work
from unibench.store import CellFolder, ClaimedPart

GRID = ("method=divprune,fastv", "ratio=0.5,0.8", "task.limit=6")


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["plan", "-m", *words, "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


class Timed(Scripted):
    def row(self, cell: Cell, *args: Any) -> Row:
        return replace(super().row(cell, *args), total_s=12.0)


def test_every_state_is_told_and_a_run_does_what_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def troubled(part: ClaimedPart, sample: str) -> None:
        where = part.folder.cell.folder.parent.name
        if where == "divprune@0.8":
            raise ValueError("broken")
        if where == "fastv@0.5" and sample == "2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(grid(tmp_path, *GRID), executors={"embedded": Timed(troubled)})
    words = (*GRID, f"out={tmp_path}")
    report = planned(capsys, *words)
    cells = {f"{entry['method']}@{entry['budget']}": entry for entry in report["cells"]}
    assert {
        name: (entry["state"], entry["answered"], entry["total"]) for name, entry in cells.items()
    } == {
        "vanilla@0": ("done", 6, 6),
        "divprune@0.5": ("done", 6, 6),
        "divprune@0.8": ("failed", 0, 6),
        "fastv@0.5": ("partial", 2, 6),
        "fastv@0.8": ("missing", 0, 6),
    }
    assert cells["divprune@0.8"]["reason"] == "ValueError: broken"
    assert "broken" in json.loads(Path(cells["divprune@0.8"]["traceback"]).read_text())["traceback"]
    assert report["states"] == {"done": 2, "partial": 1, "missing": 1, "failed": 1}
    assert (
        cells["fastv@0.8"]["seconds"] == 12
        and cells["fastv@0.5"]["seconds"] == 8
        and report["seconds"] == 32
    )
    assert (
        not report["downloads"]
        and not report["judge_calls"]
        and not report["cells_of_unknown_time"]
    )
    assert [entry["key"] for entry in planned(capsys, *words, "--failed")["cells"]] == [
        cells["divprune@0.8"]["key"]
    ]

    executor = Timed()
    outcome = work(grid(tmp_path, *GRID), executors={"embedded": executor})
    assert {key for key, _ in executor.asked} == {
        entry["key"] for entry in report["cells"] if entry["state"] in ("partial", "missing")
    }
    assert len(executor.asked) == sum(
        entry["total"] - entry["answered"]
        for entry in report["cells"]
        if entry["state"] in ("partial", "missing")
    )
    assert [failure.cell.key for failure in outcome.failures] == [cells["divprune@0.8"]["key"]]
    assert main(["plan", "-m", *words]) == 0
    table = capsys.readouterr().out
    assert (
        "failed" in table
        and "4 done, 1 failed" in table
        and "time left for one worker: 12s" in table
    )


def test_a_checkpoint_that_cannot_be_had_blocks_its_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = planned(capsys, "model=qwen2_5_vl_7b,tiny_qwen2_5_vl", f"out={tmp_path}")
    blocked = [entry for entry in report["cells"] if entry["state"] == "blocked"]
    assert len(blocked) == 2 and {entry["model"] for entry in blocked} == {"qwen2_5_vl_7b"}
    assert all("hf download" in entry["reason"] for entry in blocked)
    (download,) = report["downloads"]
    assert download.startswith("model Qwen/Qwen2.5-VL-7B-Instruct")
    assert "key after download" in download
    assert not list(tmp_path.iterdir()), "a plan writes nothing"


def test_cells_that_one_reason_stops_have_a_line_for_each_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=qwen2_5_vl_7b", "method=divprune,fastv", "seed=0,1", "ratio=0.5,0.667,0.75,0.8"]
    assert main(["plan", "-m", *words, f"out={tmp_path}"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert sum(line.startswith("qwen2_5_vl_7b") for line in lines) == 3
    assert "qwen2_5_vl_7b synthvqa divprune 0.5, 0.667, 0.75, 0.8 0, 1 8 blocked ? see 1" in lines
    assert any(line.startswith("1: 17 cells: ") for line in lines)
    assert "17 blocked" in lines
    assert len(planned(capsys, *words, f"out={tmp_path}")["cells"]) == 17


def test_a_package_that_is_missing_blocks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = planned(capsys, "model.attn=flash_attention_2", f"out={tmp_path}")
    assert all(
        entry["state"] == "blocked" and "pip install flash-attn" in entry["reason"]
        for entry in report["cells"]
    )


def test_a_damaged_cell_is_blocked_and_says_how_to_mend_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cell,) = grid(tmp_path, "method=vanilla", "task.limit=3")
    work([cell], executors={"embedded": Scripted()})
    (CellFolder(cell).path / "metrics.json").unlink()
    (CellFolder(cell).path / "samples.jsonl").write_bytes(b"garbage\n")
    (entry,) = planned(capsys, "method=vanilla", "task.limit=3", f"out={tmp_path}")["cells"]
    assert entry["state"] == "blocked" and "store repair" in entry["reason"]


def test_a_probe_times_what_no_history_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("method=divprune,fastv", "task.limit=100", f"out={tmp_path}")
    assert planned(capsys, *words)["cells_of_unknown_time"] == 3
    report = planned(capsys, *words, "--probe", "2")
    assert report["cells_of_unknown_time"] == 0 and report["seconds"] > 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["plan", "--probe"], "--probe needs a value"),
        (["plan", "--probe", "few"], "--probe few: a whole number is wanted"),
        (["plan", "--jsn"], "unknown option --jsn"),
        (["work", "--processes", "0"], "--processes 0 is too small; at least 1"),
        (["work", "--gpus", "0,0"], "numbers of GPUs, each once"),
        (["work", "--gpus", "0", "--processes", "2"], "give --processes or --gpus"),
        (["work", "--expiry", "1"], "--expiry 1 is too small"),
        (["store"], "store what?"),
        (["store", "merge", "x"], "store merge what? INTO is missing"),
        (["store", "verify", "/nowhere"], "/nowhere is no folder"),
        (["share=memory"], "add timing=false"),
        (["share=disc", "timing=false"], "unknown share 'disc'. Did you mean disk?"),
        (["shards=0"], "shards=0 is too small"),
    ],
)
def test_one_clear_line(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert expected in err and len(err.strip().splitlines()) == 1


LARGE = """
import contextlib, io, json, sys, time
from unibench import hub
from unibench.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    main(["plan", "-m", "--json", *sys.argv[1:]])
cells = json.loads(out.getvalue())["cells"]
print(json.dumps([len(cells), sorted({"torch", "scipy", "pandas"} & set(sys.modules))]))
"""


def _planned_apart(words: list[str]) -> str:
    command = [sys.executable, "-c", LARGE, *words]
    run = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=True)
    return run.stdout


@pytest.mark.slow
def test_a_plan_of_sixteen_hundred_cells_loads_no_torch(tmp_path: Path) -> None:
    methods = "divprune,fastv,random_pre,visionzip,dart,l2norm,dpp,stp,uniform_grid,pyramiddrop"
    models = "tiny_qwen2_5_vl,qwen2_5_vl_3b,qwen2_5_vl_7b,internvl3_1b,internvl3_8b"
    limits = ",".join(str(100 + number) for number in range(11))  # eleven tasks, as far as cells go
    words = [
        f"model={models}",
        f"method={methods}",
        "ratio=0.667,0.778,0.889",
        f"task.limit={limits}",
        f"out={tmp_path}",
    ]
    few = ["task.limit=100" if word.startswith("task.limit") else word for word in words]
    _planned_apart(few)  # what the methods answer is remembered
    cells, slow_to_load = json.loads(_planned_apart(words))
    assert cells == 1650 + 55 and not slow_to_load


def test_the_page_of_the_suite_s_plan_is_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a machine with a network and an empty cache."""
    page = (ROOT.parent / "results" / "plan_suite_uniprunebench.md").read_text()
    command = page[page.index("    python") : page.index("What this")].replace("\\\n", " ").split()
    monkeypatch.setattr(hub, "answers", lambda: True)
    monkeypatch.setattr(hub, "cached", lambda spec: False)
    monkeypatch.setattr(hub, "commit_of", lambda *named: None)
    capsys.readouterr()
    assert main([*command[3:], f"out={tmp_path}"]) == 0
    said = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "\n".join(said).strip() == page.partition("```\n")[2].removesuffix("```\n").strip()


def test_the_time_left_is_shared_by_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work(
        grid(tmp_path, "method=divprune", "ratio=0.5", "task.limit=6"),
        executors={"embedded": Timed()},
    )
    words = ["plan", "-m", "method=divprune,fastv", "ratio=0.5", "task.limit=6", f"out={tmp_path}"]
    assert main([*words, "--workers", "2"]) == 0
    text = capsys.readouterr().out
    assert "time left for one worker: 12s" in text
    assert "with 2 workers: about 6s" in text
