"""``python -m benchmarks.gpu``: what it imports, when it stops, and the pages that it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu import models, pages
from benchmarks.gpu.__main__ import RESULTS, main
from benchmarks.gpu.board import measure
from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.devices import MadeOn
from benchmarks.gpu.machine import machine
from benchmarks.gpu.pages import Found, write
from benchmarks.gpu.plan import METHODS, Plan, dry_plan, full_plan, without_repeats
from benchmarks.gpu.prompts import prompt, repeated, resized
from unibench import ops
from unibench.models import LoadedModel
from unibench.registry import ROOT

TOP = ROOT.parent
MIB = 2**20
CPU = torch.device("cpu")
BLOCKED = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("hydra", "omegaconf"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refused())
import benchmarks.gpu.__main__, benchmarks.gpu.run
from benchmarks.gpu.golden import chosen
from benchmarks.gpu.models import card
from benchmarks.gpu.plan import full_plan
assert sum(1 for _ in chosen()) > 300
print([card(name).family for name in full_plan().checked])
"""


@pytest.mark.slow
def test_it_imports_neither_hydra_nor_omegaconf() -> None:
    run = subprocess.run([sys.executable, "-c", BLOCKED], cwd=TOP, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "'qwen2_5_vl', 'llava', 'qwen3_vl', 'internvl', 'llava_onevision'" in run.stdout


def test_the_tracked_files_leave_room_on_a_lent_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no checkout: a copy has no list of tracked files")
    files = [TOP / name for name in listed.stdout.split("\0") if name]
    # 64 MiB travel there; the rest is for what a session adds
    assert sum(file.lstat().st_size for file in files if file.exists()) < 56 * MIB


# -- the plan


def test_the_board_has_every_kind_of_method_and_every_size() -> None:
    plan = full_plan()
    kinds = {entry.kind for entry in plan.methods}
    assert len(plan.methods) == 12
    assert kinds == {
        *("features", "vision attention", "language attention", "merging", "video"),
    }
    blocks = without_repeats(plan.blocks)
    assert {block.model for block in blocks} == set(plan.checked) and len(plan.checked) == 5
    assert {block.batch for block in blocks} == {1, 8, 32}
    assert {block.ratio for block in blocks} == {0.667, 0.889}
    qwen = {block.shown.size for block in blocks if block.model == "qwen2_5_vl_7b"}
    assert {width * height // 28**2 for width, height in qwen} == {576, 1222, 2691, 6272}


def test_the_first_blocks_are_those_that_the_limits_are_read_from() -> None:
    first = full_plan().blocks[:2]
    assert [(block.model, block.batch) for block in first] == [
        ("qwen2_5_vl_7b", 1),
        ("qwen2_5_vl_7b", 8),
    ]
    assert {block.shown.size for block in first} == {(69 * 28, 39 * 28)}


@pytest.mark.parametrize("name", full_plan().checked)
def test_a_card_is_read_as_the_command_line_reads_it(name: str) -> None:
    from unibench.compose import compose_cells

    (cell,) = compose_cells([f"model={name}", "model.weights=random"], sweep=False)
    mine = models.card(name)
    assert replace(mine, card=cell.model.card) == cell.model


# -- stopping


class Ticks:
    """A clock that goes on by one second whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return models.small("qwen2_5_vl_7b", CPU)


def few() -> Plan:
    plan = dry_plan()
    named = [entry for entry in METHODS if entry.name in ("divprune", "fastv")]
    return replace(plan, methods=named, repeats=4, new_tokens=2)


def test_a_block_has_vanilla_keep_all_the_control_and_both_ways(loaded: LoadedModel) -> None:
    block, told = dry_plan().blocks[0], list[str]()
    found = measure(loaded, block, replace(few(), repeats=2), Deadline(1e6), told.append)
    assert found.remarks == ()
    assert [(row.method, row.way) for row in found.rows] == [
        ("vanilla", "plain"),
        ("keep-all", "plain"),
        ("resize", "plain"),
        ("divprune", "plain"),
        ("divprune", "at once"),
        ("fastv", "plain"),
    ]
    vanilla, whole, control, *pruned = found.rows
    assert vanilla.kept == whole.kept == vanilla.tokens and vanilla.predicted == 1
    assert control.tokens == control.kept < vanilla.tokens
    assert {row.kept for row in pruned} == {2} and all(row.one_shot for row in pruned)
    assert all(row.repeats == 2 and row.predicted > 1 for row in pruned)
    assert all(row.peak_mib > 0 and row.kv_mib < vanilla.kv_mib for row in pruned)


@pytest.mark.slow
@pytest.mark.parametrize(("ticks", "rows"), [(3, 0), (28, 6)], ids=["too early", "in the middle"])
def test_a_block_that_the_time_ends_in_has_what_is_complete(
    loaded: LoadedModel, ticks: int, rows: int
) -> None:
    deadline = Deadline(ticks, Ticks())
    found = measure(loaded, dry_plan().blocks[0], few(), deadline, lambda text: None)
    assert len(found.rows) == rows
    assert all(2 <= row.repeats < 4 for row in found.rows)


@pytest.mark.slow
def test_a_method_that_fails_is_named_and_the_others_go_on(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unibench.methods.fastv import FastV

    def broken(self: FastV, ctx: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(FastV, "score", broken)
    plan = replace(few(), repeats=2)
    found = measure(loaded, dry_plan().blocks[0], plan, Deadline(1e6), lambda text: None)
    assert [text for text in found.remarks if "out of memory" in text] == [
        "fastv (plain): RuntimeError: out of memory"
    ]
    assert "divprune" in {row.method for row in found.rows}


def test_only_the_code_of_the_named_packages_makes_its_tensors_there() -> None:
    import tests.gpu

    generator = torch.Generator().manual_seed(0)
    with MadeOn("meta", tests.gpu):
        mine = torch.arange(3)
        named = torch.zeros(3, device="cpu")
        theirs = ops.top_k(torch.rand(3, generator=generator, device="cpu"), 2)
        stored = torch.as_tensor(np.ones(2))
    assert mine.is_meta and stored.is_meta
    assert theirs.device.type == named.device.type == "cpu"


# -- prompts


def test_a_batch_is_one_prompt_several_times(loaded: LoadedModel) -> None:
    one = prompt(loaded, dry_plan().blocks[0].shown, 8)
    three = repeated(one, 3)
    assert three["input_ids"].shape == (3, one["input_ids"].shape[1])
    with torch.no_grad():
        single = loaded.model(**one).logits
        torch.testing.assert_close(
            loaded.model(**three).logits, single.expand(3, -1, -1), atol=1e-4, rtol=1e-4
        )


def test_the_control_shows_about_as_many_tokens_as_a_method_leaves() -> None:
    shown = full_plan().blocks[0].shown
    width, height = resized(shown, 0.889).size
    assert width * height / 28**2 == pytest.approx(0.111 * 2691, rel=0.02)
    video = full_plan().blocks[2].shown
    assert resized(video, 0.889).frames == 4


# -- pages


def test_without_a_gpu_the_pages_say_so_and_claim_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--out", str(tmp_path)]) == 0
    for page in tmp_path.glob("*.md"):
        text = page.read_text()
        assert "No GPU was lent" in text and "Machine:" not in text and "| " not in text
    assert json.loads((tmp_path / "rows.json").read_text()) == []


def test_the_stored_pages_are_those_of_the_command() -> None:
    stored = {file.name: file.read_text() for file in RESULTS.iterdir()}
    if "No GPU was lent" not in stored["README.md"]:
        pytest.skip("made on a machine with a GPU")
    assert len(stored) <= pages.LIMIT
    assert all(
        "    python -m benchmarks.gpu" in text
        for name, text in stored.items()
        if name.endswith(".md")
    )


def test_a_page_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Found(None, "python -m benchmarks.gpu")
    write(old, tmp_path)
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    replaced = []

    def ends(source: Path, target: Path) -> None:
        replaced.append(target)
        if len(replaced) == 3:
            raise KeyboardInterrupt
        os.rename(source, target)

    monkeypatch.setattr(pages.os, "replace", ends)
    with pytest.raises(KeyboardInterrupt):
        write(Found(machine(CPU), "another", dry=True), tmp_path)
    names = [target.name for target in replaced[:2]]
    for name, text in before.items():
        now = (tmp_path / name).read_text()
        assert now.endswith("    another\n") if name in names else now == text


def valid(folder: Path) -> bool:
    """Whether all pages of a run are there and whole."""
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    assert len(files) <= pages.LIMIT and all(file.is_file() for file in files)
    json.loads((folder / "rows.json").read_text())
    texts = [file.read_text() for file in files if file.suffix == ".md"]
    return len(texts) == 6 and all("Machine: " in text and text.endswith("\n") for text in texts)


def dry(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu", "--dry", "--minutes", "30", "--out", str(folder)],
        cwd=TOP,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_a_dry_run_writes_every_page_and_fails_nowhere(tmp_path: Path) -> None:
    assert dry(tmp_path).wait() == 0
    assert valid(tmp_path)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["model"] for row in rows} == {block.model for block in dry_plan().blocks}
    assert {row["method"] for row in rows} >= {entry.name for entry in METHODS}
    whole = "\n".join(file.read_text() for file in tmp_path.glob("*.md"))
    assert "What failed" not in whole and "Not measured" not in whole
    assert "No number here" in whole


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_valid_pages(tmp_path: Path) -> None:
    process = dry(tmp_path)
    try:
        # killed in the middle: some rows are there, and others are missing
        while not (tmp_path / "rows.json").exists() or len(rows_in(tmp_path)) == 0:
            assert process.poll() is None
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert valid(tmp_path)
    assert {row["model"] for row in rows_in(tmp_path)} < {b.model for b in dry_plan().blocks}
    assert "was killed" in (tmp_path / "board.md").read_text()


def rows_in(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "rows.json").read_text())
    return found
