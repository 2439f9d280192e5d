"""Nothing measured is ever lost: torn lines, damaged lines, full disks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unibench import UsageError
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.identity import Cell, cell_of, vanilla_of
from unibench.store import CellFolder, DamagedError

HERE = {"device": "cpu", "code": "test"}


def cell(*overrides: str) -> Cell:
    (config,) = compose_cells(overrides, sweep=False)
    return cell_of(config)


def sample(name: str) -> dict[str, Any]:
    return {"id": name, "score": 1.0, "answer": "é\n\u2028"}


@pytest.fixture
def folder(tmp_path: Path) -> CellFolder:
    written = CellFolder(cell(f"out={tmp_path}"))
    with written.appending(HERE):
        for name in "abc":
            written.append(sample(name))
    return written


def test_samples_come_back_as_they_were_written(folder: CellFolder) -> None:
    assert folder.samples() == {name: sample(name) for name in "abc"}
    for name in ("config.yaml", "identity.json", "env.json", "status.json"):
        assert (folder.path / name).is_file()


def test_a_torn_last_line_is_dropped_and_written_again(folder: CellFolder) -> None:
    file = folder.path / "samples.jsonl"
    file.write_bytes(file.read_bytes() + b'{"id": "d", "sco')
    assert list(folder.samples()) == ["a", "b", "c"]
    with folder.appending(HERE):
        folder.append(sample("d"))
    assert list(folder.samples()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("garbage", [b"\x00\xff\x13", b"[1, 2]", b'{"id": 7}', b""])
def test_a_damaged_line_is_named_and_set_aside_by_repair(folder: CellFolder, garbage: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder.path / "samples.jsonl"
    first, *rest = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([first, garbage, *rest]))
    with pytest.raises(DamagedError, match="line 2 is damaged.*store repair"):
        folder.samples()
    assert main(["store", "repair", str(folder.path)]) == 0
    assert list(folder.samples()) == ["a", "b", "c"]
    assert garbage in (folder.path / "samples.damaged").read_bytes()
    assert main(["store", "repair", str(folder.path)]) == 0
    assert "nothing is damaged" in capsys.readouterr().out


def test_a_damaged_row_is_as_if_it_were_not_there(folder: CellFolder) -> None:
    folder.finish({"n": 3})
    assert folder.row() == {"n": 3}
    (folder.path / "metrics.json").write_text('{"n": ')
    assert folder.row() is None


def test_each_environment_is_kept(folder: CellFolder) -> None:
    with folder.appending(HERE) as run:
        assert run == 0
    with folder.appending({"device": "gpu", "code": "test"}) as run:
        assert run == 1
    assert [entry["device"] for entry in json.loads((folder.path / "env.json").read_text())] == ["cpu", "gpu"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_keeps_what_was_written_and_the_run_continues_when_there_is_space(small_disk: Path) -> None:
    folder = CellFolder(cell(f"out={small_disk}"))
    written = 0
    with pytest.raises(UsageError, match="disk is full.*same command continues"), folder.appending(HERE):
        for number in range(100_000):
            folder.append({**sample(str(number)), "text": "x" * 500})
            written += 1
    assert 10 < written < 200
    assert len(folder.samples()) == written
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    with folder.appending(HERE):
        folder.append(sample("next"))
    assert len(folder.samples()) == written + 1


def test_keys_follow_what_changes_numbers_and_nothing_else() -> None:
    base = cell()
    same = [cell("out=elsewhere"), cell("ratio=0.889"), cell("model.device=cpu")]
    other = [
        cell("ratio=0.5"), cell("keep=16"), cell("seed=1"), cell("method=fastv"), cell("model.dtype=bfloat16"), cell("model.attn=eager"),
        cell("task.limit=100"), cell("batch_size=2"), cell("budget.scope=item"), cell("generation.max_new_tokens=4"),
    ]  # fmt: skip
    assert {entry.key for entry in same} == {base.key}
    assert len({entry.key for entry in [base, *other]}) == 1 + len(other)


def test_vanilla_is_one_cell_for_all_methods_budgets_and_seeds() -> None:
    cells = [cell("method=divprune"), cell("method=fastv", "ratio=0.5", "seed=3", "budget.scope=item"), cell("method=vanilla")]
    assert len({vanilla_of(entry).key for entry in cells}) == 1
    assert vanilla_of(cells[0]).key == cells[2].key


def test_a_method_file_changes_its_key_by_its_code_not_by_its_words(tmp_path: Path) -> None:
    source = (
        "from dataclasses import dataclass\nfrom unibench import Method, Selection\nimport torch\n\n\n@dataclass(frozen=True)\n"
        'class Mine(Method):\n    """{words}"""\n\n    def select(self, ctx):\n        return Selection(torch.arange(ctx.keep){more})\n'
    )
    keys = []
    for number, (words, more) in enumerate([("one", ""), ("two # sentences", ""), ("one", ".flip(0)")]):
        file = tmp_path / str(number) / "mine.py"
        file.parent.mkdir()
        file.write_text(source.format(words=words, more=more))
        keys.append(cell(f"method={file}:Mine").key)
    assert keys[0] == keys[1] != keys[2]
