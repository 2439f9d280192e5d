"""A real SLURM on this machine: an array over forty cells, one worker requeued, one killed, one at
the end of its time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster._grid import (
    FIVE,
    FORTY,
    Held,
    answers,
    assert_equal,
    complete,
    environ_of,
    environment,
    mid_cell,
    unibench,
    wait_for,
    words,
)

pytestmark = pytest.mark.slow
Log = Callable[[str], None]
LOOKED_AT = ("seen here", "code", "shared folder", "cells", "python", "torch")


def task_of(held: Held) -> str | None:
    """The array task whose process holds a claim."""
    found = environ_of(held.pid)
    return (
        f"{found['SLURM_ARRAY_JOB_ID']}_{found['SLURM_ARRAY_TASK_ID']}"
        if "SLURM_ARRAY_TASK_ID" in found
        else None
    )


def ended(job: str, env: dict[str, str]) -> bool:
    queue = subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True, env=env)
    return not queue.stdout.strip()


def submitted(output: str) -> str:
    found = re.search(r"^job (\d+): ", output, re.MULTILINE)
    assert found, output
    return found[1]


def test_an_array_of_four_loses_nothing_when_one_is_requeued_and_one_killed(
    tmp_path: Path, slurm: dict[str, str], calm_forty: Path, log: Log
) -> None:
    env = environment(**slurm)
    out = tmp_path / "slurm"
    begin = time.monotonic()
    run = unibench(
        "submit",
        *words(FORTY, out),
        "cluster=slurm",
        "--workers",
        "4",
        "--minutes",
        "60",
        "--mem",
        "2",
        env=env,
    )
    job = submitted(run.stdout)
    log(f"slurm: {run.stdout.splitlines()[-2]} (the command took {time.monotonic() - begin:.1f} s)")

    requeued, task = wait_for(
        lambda: next(((held, task) for held in mid_cell(out, 6) if (task := task_of(held))), None)
    )
    subprocess.run(["scontrol", "requeue", task], check=True, env=env)
    log(
        f"slurm: scontrol requeue {task} after {requeued.samples} of 6 samples of"
        f" {requeued.folder.parent.name}"
    )
    wait_for(lambda: not environ_of(requeued.pid), 60)

    killed, other = wait_for(
        lambda: next(
            (
                (held, other)
                for held in mid_cell(out, 6)
                if (other := task_of(held)) not in (None, task)
            ),
            None,
        )
    )
    os.kill(killed.pid, signal.SIGKILL)
    log(
        f"slurm: kill -9 of task {other} after {killed.samples} of 6 samples of"
        f" {killed.folder.parent.name}"
    )

    wait_for(lambda: complete(out, 40), 900)
    log("slurm: forty cells are complete")
    wait_for(lambda: ended(job, env), 300)
    shown = subprocess.run(
        ["scontrol", "show", "job", task], capture_output=True, text=True, env=env
    ).stdout
    state = " ".join(re.findall(r"JobState=\w+|Restarts=\d+|ExitCode=\S+", shown))
    log(f"slurm: task {task}: {state}")
    assert "Restarts=1" in state and "JobState=COMPLETED" in state
    (said,) = out.rglob(f"{task}_0_log.out")
    assert (
        said.read_text().count("Starting with") == 2
        and "Job completed successfully" in said.read_text().rpartition("Starting with")[2]
    )

    assert_equal(out, calm_forty, 40)
    log("slurm: all but times is equal to an undisturbed run in one process")


def test_a_worker_ends_at_a_sample_before_its_wall_and_queues_again(
    tmp_path: Path, slurm: dict[str, str], log: Log
) -> None:
    env, out = environment(**slurm), tmp_path / "slurm"
    long = ("method=vanilla", "task.limit=30000", "model.threads=1")
    run = unibench(
        "submit", *words(long, out), "cluster=slurm", "--minutes", "3", "--extra", "nice=5", env=env
    )
    job = submitted(run.stdout)
    said = next(out.rglob("plan.json")).with_name(f"{job}_0_log.out")
    wait_for(lambda: said.exists() and "Requeued job" in said.read_text(), 400)
    (samples,) = out.rglob("samples-*.jsonl")
    count = len(answers(out))
    log(
        f"slurm: job {job} of three minutes ended with {count} samples and queued again:"
        f" {said.read_text().splitlines()[-2][-90:]}"
    )
    assert 0 < count < 30000 and samples.read_bytes().endswith(b"\n")
    assert "DUE TO TIME LIMIT" not in said.with_suffix(".err").read_text()
    wait_for(lambda: said.read_text().count("Starting with") == 2, 300)
    wait_for(lambda: len(answers(out)) > count, 120)
    log(f"slurm: job {job} goes on")
    subprocess.run(["scancel", job], check=True, env=env)
    wait_for(lambda: ended(job, env), 120)
    assert len(set(answers(out))) == len(answers(out)), "a sample was answered twice"


def test_the_doctor_asks_the_node(tmp_path: Path, slurm: dict[str, str], log: Log) -> None:
    run = unibench("doctor", *words(FIVE, tmp_path), "cluster=slurm", env=environment(**slurm))
    for what in LOOKED_AT:
        assert re.search(rf"^ok +{what} ", run.stdout, re.MULTILINE), run.stdout
    log(f"slurm: doctor: {', '.join(LOOKED_AT)} are fine on the node")


def test_hydras_slurm_launcher_runs_a_sweep(
    tmp_path: Path, slurm: dict[str, str], calm_five: Path, log: Log
) -> None:
    where = (
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.timeout_min=30",
        "hydra.launcher.array_parallelism=2",
    )
    unibench(*words(FIVE, tmp_path), *where, env=environment(**slurm))
    assert_equal(tmp_path, calm_five, 5)
    log("hydra/launcher=submitit_slurm: five cells, all but times equal to a local run")
