"""Nothing measured is ever lost: torn lines, damaged lines, full disks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.disks import mounted
from tests.support.records import line
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.identity import Cell, cell_of, vanilla_of
from unibench.inference.environment import PACKAGES, environment
from unibench.store import CellFolder, DiskError, versions
from unibench.store.files import replace

HERE = {"device": "cpu", "code": "test"}


def cell(*overrides: str) -> Cell:
    (config,) = compose_cells(overrides, sweep=False)
    return cell_of(config)


def sample(name: str) -> dict[str, Any]:
    return line(id=name, answer="é\n\u2028")


@pytest.fixture
def folder(tmp_path: Path) -> CellFolder:
    written = CellFolder(cell(f"out={tmp_path}"))
    with written.appending(HERE):
        for name in "abc":
            written.append(sample(name))
    return written


def test_samples_come_back_as_they_were_written(folder: CellFolder) -> None:
    assert folder.samples() == {name: sample(name) for name in "abc"}
    assert folder.environments() == [HERE]
    for name in ("config.yaml", "identity.json", "status.json"):
        assert (folder.path / name).is_file()


def test_a_torn_last_line_is_dropped_and_written_again(folder: CellFolder) -> None:
    file = folder.path / "samples-0.jsonl"
    file.write_bytes(file.read_bytes() + b'{"id": "d", "sco')
    assert list(folder.samples()) == ["a", "b", "c"]
    with folder.appending(HERE):
        folder.append(sample("d"))
    assert list(folder.samples()) == ["a", "b", "c", "d"]


def test_a_damaged_row_is_as_if_it_were_not_there(folder: CellFolder) -> None:
    folder.finish({"n": 3})
    assert folder.row() == {"n": 3}
    (folder.path / "metrics.json").write_text('{"n": ')
    assert folder.row() is None


def test_each_sample_knows_the_environment_of_its_writer(folder: CellFolder) -> None:
    for device, name in (("gpu", "d"), ("cpu", "e")):
        with folder.appending({"device": device, "code": "test"}):
            folder.append(sample(name))
            folder.note(peak_mib=5) if device == "gpu" else None
    expected = [HERE, {"device": "gpu", "code": "test", "peak_mib": 5}]
    for _ in range(2):
        assert folder.environments() == expected
        assert [entry["run"] for entry in folder.samples().values()] == [0, 0, 0, 1, 0]
        folder.merge()


RELEASES = {"torch": "2.8.0", "pillow": "11.0", "numpy": "2.0"}


def test_a_cell_is_never_continued_under_other_releases(tmp_path: Path) -> None:
    folder = CellFolder(cell(f"out={tmp_path}"))
    with folder.appending({**HERE, "packages": RELEASES}):
        pass  # killed before the first sample: nothing was answered under these
    with folder.appending({**HERE, "packages": {**RELEASES, "torch": "2.9.0"}}):
        folder.append(sample("a"))
    for same in ({**RELEASES, "torch": "2.9.0", "numpy": "3"}, {"torch": "2.9.0"}, {}):
        with folder.appending({**HERE, "packages": same}):
            pass  # numpy decides no answer, and what is not named is not known to differ
    with (
        pytest.raises(UsageError, match=r"torch 2\.9\.0 there and 2\.8\.0 here"),
        folder.appending({**HERE, "packages": RELEASES}),
    ):
        pass
    assert list(folder.samples()) == ["a"]
    folder.merge()
    with pytest.raises(UsageError, match="finish it there"):
        folder.check_versions(RELEASES)


def test_the_releases_of_this_environment_are_those_that_a_run_stores() -> None:
    assert versions.installed().items() <= environment(torch.device("cpu"))["packages"].items()
    assert {"torch", "transformers", "tokenizers", "pillow"} <= versions.installed().keys()
    assert set(versions.DECIDING) <= set(PACKAGES)


def test_merging_writers_keeps_each_sample_once_in_the_order_of_the_task(tmp_path: Path) -> None:
    folder = CellFolder(cell(f"out={tmp_path}"))
    for names in ("db", "bca"):
        with folder.appending(HERE):
            for name in names:
                folder.append({**sample(name), "index": "abcd".index(name)})
    before = folder.samples()
    assert list(before) == list("abcd")
    folder.merge()
    assert folder.samples() == before and [file.name for file in folder.path.glob("samples*")] == [
        "samples.jsonl"
    ]
    assert (folder.path / "samples.jsonl").read_bytes().count(b"\n") == 4


def test_a_kill_between_the_steps_of_a_merge_loses_and_doubles_nothing(
    folder: CellFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.samples()
    steps = 0

    def killed(limit: int, step: Callable[..., None]) -> Callable[..., None]:
        def counted(*args: Any, **options: Any) -> None:
            nonlocal steps
            steps += 1
            if steps > limit:
                raise KeyboardInterrupt
            step(*args, **options)

        return counted

    for limit in range(3):
        steps = 0
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("unibench.store.folder.replace", killed(limit, replace))
            patch.setattr(Path, "unlink", killed(limit, Path.unlink))
            folder.merge()
        assert folder.samples() == before and folder.environments() == [HERE]
    folder.merge()
    assert folder.samples() == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "64k") as disk:
        yield disk


def test_a_full_disk_keeps_what_was_written_and_the_run_continues_when_there_is_space(
    small_disk: Path,
) -> None:
    folder = CellFolder(cell(f"out={small_disk}"))
    written = 0
    with (
        pytest.raises(DiskError, match="disk is full.*same command continues"),
        folder.appending(HERE),
    ):
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
    same = [cell("out=elsewhere"), cell("ratio=0.889"), cell("model.device=cpu"), cell("shards=8")]
    other = [
        cell("ratio=0.5"), cell("keep=16"), cell("seed=1"), cell("method=fastv"), cell("model.dtype=bfloat16"), cell("model.attn=eager"),
        cell("task.limit=100"), cell("batch_size=2"), cell("budget.scope=item"), cell("generation.max_new_tokens=4"), cell("timing=false"),
    ]  # fmt: skip
    assert {entry.key for entry in same} == {base.key}
    assert len({entry.key for entry in [base, *other]}) == 1 + len(other)


def test_vanilla_is_one_cell_for_all_methods_budgets_and_seeds() -> None:
    cells = [
        cell("method=divprune"),
        cell("method=fastv", "ratio=0.5", "seed=3", "budget.scope=item"),
        cell("method=vanilla"),
    ]
    assert len({vanilla_of(entry).key for entry in cells}) == 1
    assert vanilla_of(cells[0]).key == cells[2].key


def test_a_method_file_changes_its_key_by_its_code_not_by_its_words(tmp_path: Path) -> None:
    source = (
        "from dataclasses import dataclass\nfrom unibench import Method, Selection\nimport"
        ' torch\n\n\n@dataclass(frozen=True)\nclass Mine(Method):\n    """{words}"""\n\n    def'
        " select(self, ctx):\n        return Selection(torch.arange(ctx.keep){more})\n"
    )
    keys = []
    for number, (words, more) in enumerate(
        [("one", ""), ("two # sentences", ""), ("one", ".flip(0)")]
    ):
        file = tmp_path / str(number) / "mine.py"
        file.parent.mkdir()
        file.write_text(source.format(words=words, more=more))
        keys.append(cell(f"method={file}:Mine").key)
    assert keys[0] == keys[1] != keys[2]


def test_a_checkpoint_changes_its_key_by_what_is_loaded_not_by_its_card(tmp_path: Path) -> None:
    keys, kind = [], '{"model_type": "qwen2_5_vl"}'
    for number, (card, config) in enumerate(
        [("one", kind), ("two sentences", kind), ("one", f" {kind}")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "README.md").write_text(card)
        (folder / "config.json").write_text(config)
        keys.append(cell(f"model.path={folder}").key)
    assert keys[0] == keys[1] != keys[2]
