"""What a submission writes and asks for, and when a worker ends. Nothing here needs a cluster: a
script stands in for sbatch.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.workers import Scripted, grid
from unibench.cli import main
from unibench.cli.main import RUN, VERBS
from unibench.cli.parser import Parser
from unibench.cluster import PLAN, Resources, Worker, read_plan, run_tasks, write_plan
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.plan import survey
from unibench.registry import ROOT
from unibench.runner import Stop, work
from unibench.runner.listener import Silent
from unibench.store import CellFolder, ClaimedPart, Watch, claim_part

SBATCH = """#!/bin/sh
cp "$1" {folder}/submitted.sh
echo "Submitted batch job 77"
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script that was submitted, once one is."""
    pytest.importorskip("submitit")
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text(SBATCH.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "submitted.sh"


PAGE = (ROOT.parent / "docs" / "clusters.md").read_text()
GRID = re.search(r'G="(.*)"', PAGE)
COMMANDS = re.findall(r"^    python -m unibench (.*?)(?: +#.*)?$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_page_is_understood(line: str) -> None:
    assert GRID is not None
    first, *rest = words = line.replace("$G", GRID[1]).split()
    parser = Parser("", "")
    VERBS.get(first, RUN).arguments(parser)
    options = parser.read(rest if first in VERBS else words)
    assert options.multirun and not options.mistakes
    assert len(compose_cells(options.words, sweep=True)) == 4


def quiet(number: int) -> Silent:
    return Silent()


def test_a_plan_names_the_same_cells_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = grid(Path("out"), "method=divprune,fastv", "ratio=0.5")
    folder = write_plan(cells, ["-m", "method=divprune,fastv"])
    monkeypatch.chdir("/")
    assert [cell.key for cell in read_plan(folder)] == [cell.key for cell in cells]
    assert all(cell.folder.is_relative_to(tmp_path / "out") for cell in read_plan(folder))
    assert json.loads((folder / PLAN).read_text())["command"] == ["-m", "method=divprune,fastv"]


def test_a_node_with_other_code_refuses_the_plan(tmp_path: Path) -> None:
    folder = write_plan(grid(tmp_path, "task.limit=3"), [])
    (folder / PLAN).write_text((folder / PLAN).read_text().replace('"limit": 3', '"limit": 4'))
    with pytest.raises(UsageError, match=r"another version of unibench.*doctor cluster="):
        Worker(folder, quiet)(0)


def test_a_node_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="disk that all nodes share"):
        Worker(tmp_path / "nowhere", quiet)(0)


def test_sbatch_is_asked_for_what_was_given(
    tmp_path: Path, sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "--partition",
        "long",
        "--gpus",
        "2",
        "--mem",
        "1.5",
        "--account",
        "me",
        "--cpus",
        "3",
        "--extra",
        "qos=high,exclude=n1",
    ]
    line = [
        "submit",
        "-m",
        "method=divprune,fastv",
        "model.device_map=auto",
        f"out={tmp_path / 'out'}",
        "cluster=slurm",
    ]
    assert main([*line, "--workers", "4", "--minutes", "90", *given]) == 0
    script = sbatch.read_text()
    for option in (
        "array=0-3%4",
        "partition=long",
        "gpus-per-node=2",
        "mem=1536MB",
        "account=me",
        "cpus-per-task=3",
        "qos=high",
    ):
        assert f"#SBATCH --{option}\n" in script
    assert (
        "#SBATCH --time=90\n" in script
        and "#SBATCH --exclude=n1\n" in script
        and "--signal=USR2@120" in script
    )
    said = capsys.readouterr().out
    assert "3 of 3 cells to do" in said and "job 77: 4 workers on slurm" in said
    (plan,) = (tmp_path / "out").rglob(PLAN)
    assert [cell.config.model.device_map for cell in read_plan(plan.parent)] == ["auto"] * 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["submit", "method=fastv"], "Give cluster=slurm|ray|local"),
        (["submit", "cluster=slrum"], "Did you mean slurm?"),
        (["submit", "cluster=local", "--workers", "0"], "at least 1"),
        (["submit", "cluster=local", "--extra", "qos"], "--extra qos"),
        (["submit", "cluster=local", "method=divprun"], "Did you mean divprune?"),
        (
            ["submit", "cluster=ray", "--address", "127.0.0.1:1"],
            "no Ray cluster at --address 127.0.0.1:1",
        ),
        (["hydra/launcher=joblib", "method=fastv"], "add -m"),
        (["-m", "hydra/launcher=joblip", "method=fastv"], "joblip"),
        (
            ["-m", "hydra/launcher=joblib", "hydra.launcher.jobs=2", "method=fastv"],
            "hydra.launcher.jobs",
        ),
        (["doctor", "cluster=slrum"], "Did you mean slurm?"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0] != "doctor":
        words = [*words, f"out={tmp_path}"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_without_slurm_the_error_says_what_to_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["submit", "cluster=slurm", f"out={tmp_path}"]) == 2
    assert "there is no sbatch on this machine" in capsys.readouterr().err


def test_gpus_of_this_machine_are_dealt_out_or_the_error_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    line = ["submit", "cluster=local", "method=vanilla", f"out={tmp_path}"]
    assert main(line) == 2 and "how many of the 2 GPUs each worker gets" in capsys.readouterr().err
    assert (
        main([*line, "--workers", "2", "--gpus", "2"]) == 2
        and "want 4 GPUs, there are 2" in capsys.readouterr().err
    )

    started: list[str] = []

    def start(**options: Any) -> Any:
        started.append(options["cuda_devices"])
        return SimpleNamespace(pid=len(started), poll=lambda: None)

    pytest.importorskip("submitit")
    monkeypatch.setattr("submitit.local.local.start_controller", start)
    assert main([*line, "--workers", "2", "--gpus", "1"]) == 0
    assert started == ["0", "1"]


def test_gpus_of_a_ray_cluster_are_not_left_idle_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "unibench.cluster.rays._connected",
        lambda address: SimpleNamespace(cluster_resources=lambda: {"GPU": 8.0}),
    )
    with pytest.raises(UsageError, match="how many of the cluster's 8 GPUs"):
        next(run_tasks(print, 1, Resources(), "auto"))


def test_a_grid_that_cannot_run_is_not_called_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["method=divprune", "model.attn=flash_attention_2", f"out={tmp_path / 'out'}"]
    assert main(["submit", *words, "cluster=local"]) == 2
    said = capsys.readouterr().err
    assert "nothing is left to do" not in said and "pip install flash-attn" in said


def test_a_finished_grid_is_not_submitted(
    tmp_path: Path, sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["method=vanilla", "task.limit=1", f"out={tmp_path / 'out'}"]
    assert main(overrides) == 0
    assert main(["submit", *overrides, "cluster=slurm"]) == 0
    assert "nothing is left to do" in capsys.readouterr().err and not sbatch.exists()


def test_time_that_is_up_ends_the_work_between_two_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = grid(tmp_path, "method=vanilla", "task.limit=1000")

    def long(part: ClaimedPart, sample: str) -> None:
        if sample == "4":
            begun = time.monotonic()
            monkeypatch.setattr(time, "monotonic", lambda: begun + 3600)

    with pytest.raises(KeyboardInterrupt):
        work(cells, executors={"embedded": Scripted(long)}, stop=Stop(seconds=3600))
    (plan,) = survey(cells)
    assert (plan.state, plan.answered, plan.holder) == ("partial", 5, None)
    assert len(CellFolder(plan.cell).samples()) == plan.answered


def test_who_is_late_before_its_first_sample_marks_nothing_as_done(tmp_path: Path) -> None:
    cells = grid(tmp_path, "method=vanilla", "task.limit=3")

    class Sluggish(Scripted):
        def answer(self, part: ClaimedPart, stop: Stop, listener: object) -> None:
            time.sleep(0.2)  # loading a model, after which it sees that it is late

    with pytest.raises(KeyboardInterrupt):
        work(cells, executors={"embedded": Sluggish()}, stop=Stop(seconds=0.1))
    assert work(cells, executors={"embedded": Scripted()}).rows[cells[0].key].n == 3


def test_who_waits_for_others_heeds_the_time_too(tmp_path: Path) -> None:
    cells = grid(tmp_path, "method=vanilla", "task.limit=3")
    part = claim_part(CellFolder(cells[0]), 1, Watch())
    assert part is not None
    with pytest.raises(KeyboardInterrupt):
        work(cells, executors={"embedded": Scripted()}, stop=Stop(seconds=0.2))
    part.close()


def test_the_scheduler_has_its_signal_once_the_sample_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit's own handler queues the job again, and must not run in the middle of a sample."""
    order: list[str] = []

    class Warned(Scripted):
        def answer(self, part: ClaimedPart, stop: Stop, listener: object) -> None:
            with stop.answering():
                os.kill(os.getpid(), signal.SIGUSR2)
                order.append("the sample")

    monkeypatch.setattr(sys.modules["unibench.runner.work"], "Embedded", Warned)
    folder = write_plan(grid(tmp_path, "method=vanilla", "task.limit=3"), [])
    before = signal.signal(signal.SIGUSR2, lambda number, frame: order.append("the scheduler"))
    try:
        assert "stopped" in Worker(folder, quiet, warning=signal.SIGUSR2)(0)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert order == ["the sample", "the scheduler"]
