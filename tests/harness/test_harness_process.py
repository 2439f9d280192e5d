"""The parent's side: a child that answers, refuses, fails, dies or hangs. An executable script
stands in for the interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from unibench.cli import main
from unibench.compose import compose_cells
from unibench.harness import needs
from unibench.harness.job import read_job, write_job
from unibench.identity import Cell, cell_of
from unibench.store import CellFolder

# A child in 30 lines: answers three samples of every job it is given, and does at the sample named
# in $TROUBLE what it says.
CHILD = """#!{python}
import json, os, pathlib, signal, sys, time
def say(**event):
    print(json.dumps(event), flush=True)
def answer(job):
    folder = pathlib.Path(job).parent
    cell = json.loads(pathlib.Path(job).read_text())["cells"][0]
    with open(folder.parents[3] / "log.txt", "a") as log: log.write(f"{{os.getpid()}} {{cell['key']}}\\n")
    lines = [line for file in folder.glob("samples*.jsonl") for line in file.read_text().splitlines()]
    done = [json.loads(line)["id"] for line in lines if '"id"' in line]
    say(event="cell", key=cell["key"], done=len(done), total=3, environment={{"device": "cpu", "code": "test"}})
    for number in range(3):
        if str(number) in done: continue
        trouble = os.environ.get("TROUBLE", "").split(":")
        if trouble[0] == str(number):
            {{"kill": lambda: os.kill(os.getpid(), signal.SIGKILL), "exit": lambda: sys.exit(3), "hang": lambda: time.sleep(600),
              "refuse": lambda: say(event="refused", message="give more"),
              "fail": lambda: say(event="failed", message="KeyError: x")}}[trouble[1]]()
        say(event="sample", record=dict(id=str(number), index=number, ability="a", group="g", truth="yes", answer="yes", score=None,
            prompt="?", text_tokens=3, visual_tokens=9, kept=9, processed=[9, 9], last="", layout=[], new_tokens=1, tflops=1.0, tflops_full=1.0,
            method_tflops=0.0, kv_mib=1.0,
            total_ms=1.0, vision_ms=1.0, prefill_ms=1.0, method_ms=0.0, decode_ms=0.0, notes=[]))
    say(event="answered", peak_mib=None)
    metrics = {{name: dict(score=50.0, score_100=50.0, mean=0.0) for name in ("accuracy", "f1", "precision", "recall")}}
    say(event="result", metrics=metrics, scores={{}}, raw={{}}, data="local:x", prompts="p", generation={{}}, judge="exact", judged=0)
answer(sys.argv[3])
for line in sys.stdin:
    answer(line.strip())
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "POPE.tsv").touch()  # only its being there is looked at before a child starts
    monkeypatch.setenv("LMUData", str(tmp_path))
    monkeypatch.setattr(needs, "LMU_DATA", str(tmp_path))
    child = tmp_path / "child"
    child.write_text(CHILD.format(python=sys.executable))
    child.chmod(0o755)
    return ["task=pope", f"harness_options.python={child}", f"out={tmp_path / 'out'}"]


def cell(words: list[str]) -> Cell:
    (config,) = compose_cells(words, sweep=False)
    return cell_of(config)


def children(tmp_path: Path) -> list[list[str]]:
    """Process id and key of every job that a child was given."""
    return [line.split() for line in (tmp_path / "out" / "log.txt").read_text().splitlines()]


def rows(tmp_path: Path) -> dict[str, dict[str, Any]]:
    return {
        row["method"]: row
        for row in (json.loads(file.read_text()) for file in tmp_path.rglob("metrics.json"))
    }


def test_a_job_is_the_same_cell_in_the_child(words: list[str], tmp_path: Path) -> None:
    one = cell([*words, "model=tiny_qwen2_5_vl", "method=fastv", "method.layer=1", "keep=5"])
    write_job([one], tmp_path / "job.json")
    (read,) = read_job(tmp_path / "job.json")
    assert read.key == one.key and read.config.task.vlmevalkit == one.config.task.vlmevalkit


def test_a_job_of_another_version_is_refused(words: list[str], tmp_path: Path) -> None:
    write_job([cell(words)], tmp_path / "job.json")
    job = json.loads((tmp_path / "job.json").read_text())
    job["cells"][0]["config"]["generation"]["repetition_penalty"] = 1.1
    (tmp_path / "job.json").write_text(json.dumps(job))
    with pytest.raises(ValueError, match="another version"):
        read_job(tmp_path / "job.json")


def test_one_child_serves_the_cells_of_a_model(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "-m", "ratio=0.667,0.889"]) == 0
    assert len({process for process, _ in children(tmp_path)}) == 1 and len(children(tmp_path)) == 3
    row = rows(tmp_path)["divprune"]
    assert (row["score"], row["score_100"], row["n"], row["judge"], row["harness"]) == (
        50.0,
        50.0,
        3,
        "exact",
        "vlmevalkit",
    )
    assert row["ci_low"] is None and row["vanilla_100"] == 50.0 and row["drop_pct"] == 0.0


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (
            "1:kill",
            "the harness's process was killed by SIGKILL, as the system does when memory is short",
        ),
        ("1:exit", "the harness's process ended with code 3"),
        ("1:fail", "KeyError: x"),
        ("1:refuse", "give more"),
    ],
)
def test_what_a_child_answered_before_it_died_is_not_asked_again(
    words: list[str],
    tmp_path: Path,
    trouble: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TROUBLE", trouble)
    one = cell([*words, "method=vanilla"])
    assert main([*words, "method=vanilla"]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert (
        list(CellFolder(one).samples()) == ["0"]
        and json.loads((one.folder / "status.json").read_text())["state"] == "failed"
    )
    monkeypatch.setenv("TROUBLE", "0:fail")  # it would fail if the first sample were asked again
    assert main([*words, "method=vanilla"]) == 0
    assert list(CellFolder(one).samples()) == ["0", "1", "2"]


def test_an_interpreter_that_does_not_exist_is_named(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "harness_options.python=/no/python"]) == 2
    assert (
        "harness_options.python=/no/python cannot be started: No such file"
        in capsys.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_parent_takes_its_child_along(
    words: list[str], tmp_path: Path, sent: signal.Signals
) -> None:
    command = [sys.executable, "-m", "unibench", *words, "method=vanilla"]
    parent = subprocess.Popen(
        command, env={**os.environ, "TROUBLE": "1:hang"}, stderr=subprocess.PIPE
    )
    folder = CellFolder(cell([*words, "method=vanilla"]))
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not folder.samples():
        time.sleep(0.05)
    parent.send_signal(sent)  # asks it to finish the sample, which hangs
    time.sleep(0.2)
    parent.send_signal(sent)
    _, err = parent.communicate(timeout=60)
    assert parent.returncode == 130 and b"same command continues" in err and b"Traceback" not in err
    assert list(folder.samples()) == ["0"]
    ((process, _),) = children(tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(int(process), 0)
