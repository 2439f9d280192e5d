"""Own files are no links: nothing outside of a store is read or written through one; modes stay."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stats._cells import finished
from tests.support.workers import Scripted, grid
from unibench.cli import main
from unibench.config import JudgeConfig
from unibench.errors import UsageError
from unibench.harness.child.judge import JudgedCell
from unibench.runner import work
from unibench.store import CellFolder, cells_below, export, import_, index, merge, repair, verify
from unibench.store.data import UnreadableError, read_bytes, read_mapping
from unibench.store.files import appending, replace

SECRET = "what only the victim knows"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    finished(tmp_path / "out", [1.0, 0.0], "method=vanilla", "task.limit=2")
    return tmp_path / "out"


@pytest.fixture
def cell(out: Path) -> Path:
    (found,) = cells_below(out)
    return found


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file outside, which is as it was in the end."""
    file = tmp_path / "victim"
    file.write_text(SECRET)
    yield file
    assert file.read_text() == SECRET and not file.is_symlink()


FILES = ("config.yaml", "env.json", "status.json", "metrics.json", "samples.jsonl", "run.log", "samples.damaged", "judge.jsonl", "harness.json")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_place_of_a_cells_file_is_named_and_not_followed(
    name: str, out: Path, cell: Path, victim: Path, tmp_path: Path
) -> None:
    (cell / name).unlink(missing_ok=True)
    (cell / name).symlink_to(victim)
    assert cell / name in {problem.file for problem in verify(out)}
    main(["store", "index", str(out)])
    main(["report", f"out={out}"])
    if main(["report", "--html", f"out={out}", f"to={tmp_path / 'page'}"]) == 0:
        assert SECRET not in (tmp_path / "page" / "index.html").read_text()
    for action in (lambda: merge(out, tmp_path / "b"), lambda: export(out, tmp_path / "a.tar.gz")):
        with pytest.raises(UnreadableError, match=f"{name} is a link"):
            action()
    assert not (tmp_path / "a.tar.gz").exists() and SECRET not in contents(tmp_path / "b")
    repair(out)
    assert (cell / f"{name}.damaged").is_symlink() and not (cell / name).is_symlink()


def contents(folder: Path) -> str:
    return "".join(file.read_text() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("level", ["model", "task", "method", "cell"])
def test_a_linked_folder_is_named_and_nothing_is_written_through_it(
    level: str, out: Path, cell: Path, tmp_path: Path
) -> None:
    depth = ["model", "task", "method", "cell"].index(level)
    place = [*reversed(cell.parents), cell][len(out.parts) + depth]
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    assert index(out) == []
    assert [problem.what for problem in verify(out)] == ["is a link; no reader follows it"]
    finished(tmp_path / "other", [1.0, 0.0], "method=vanilla", "task.limit=2")
    export(tmp_path / "other", tmp_path / "a.tar.gz")
    for write in (
        lambda: merge(tmp_path / "other", out),
        lambda: import_(tmp_path / "a.tar.gz", out),
        lambda: finished(out, [1.0, 0.0], "method=vanilla", "task.limit=2"),
    ):
        with pytest.raises(UnreadableError, match="is a link; nothing is written through it"):
            write()
    cells = grid(out, "method=vanilla", "task.limit=2")
    assert [one.folder for one in cells] == [cell]
    outcome = work(cells, executors={"embedded": Scripted()})
    assert outcome.rows or ["is a link" in failure.error for failure in outcome.failures] == [True]
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before


def test_a_store_may_itself_be_a_link(out: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(out)
    assert len(index(tmp_path / "link")) == 1 and verify(tmp_path / "link") == []
    finished(tmp_path / "link", [1.0, 0.0], "method=divprune", "task.limit=2")
    assert len(index(out)) == 2
    assert merge(tmp_path / "link", tmp_path / "other").new == 2


def test_what_is_written_takes_the_place_of_a_link(victim: Path, out: Path, tmp_path: Path) -> None:
    page, shared = tmp_path / "page", tmp_path / "shared"
    for folder, name in ((page, "index.html"), (shared, ".a.tar.gz.tmp"), (shared, "a.tar.gz")):
        folder.mkdir(exist_ok=True)
        (folder / name).symlink_to(victim)
    assert main(["report", "--html", f"out={out}", f"to={page}"]) == 0
    export(out, shared / "a.tar.gz")
    assert not (page / "index.html").is_symlink() and not (shared / "a.tar.gz").is_symlink()
    (out / "index.parquet").unlink(missing_ok=True)
    (out / "index.parquet").symlink_to(victim)
    assert main(["report", f"out={out}"]) == 0 and not (out / "index.parquet").is_symlink()
    (tmp_path / "x").symlink_to(victim)
    with pytest.raises(UnreadableError, match="is a link"), appending(tmp_path / "x") as stream:
        stream.write(b"x")


def test_a_log_or_the_replies_of_a_judge_are_no_link(
    victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = grid(tmp_path / "out", "method=vanilla", "task.limit=2")
    one.folder.mkdir(parents=True)
    (one.folder / "run.log").symlink_to(victim)
    with pytest.raises(UsageError), CellFolder(one).logged():
        pass
    (one.folder / "judge.jsonl").symlink_to(victim)
    with pytest.raises(UnreadableError, match="is a symbolic link"):
        JudgedCell(JudgeConfig(kind="endpoint"), one.folder, "http://x", "key")


def test_a_damaged_reply_of_a_judge_is_asked_again(tmp_path: Path) -> None:
    good = json.dumps({"request": "a", "reply": {"text": "yes"}}) + "\n"
    for bad in ("{", "[]", '{"request": "b"}', '{"request": "b", "reply": 7}', "\x00"):
        (tmp_path / "judge.jsonl").write_text(good + bad + "\n" + good[:20])
        judged = JudgedCell(JudgeConfig(kind="endpoint"), tmp_path, "http://x", "key")
        assert judged._replies == {"a": {"text": "yes"}}
        assert json.loads((tmp_path / "judge.jsonl").read_text()) == json.loads(good)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_or_a_folder_as_a_file_does_not_hang(kind: str, out: Path, cell: Path) -> None:
    for name in ("metrics.json", "samples.jsonl", "config.yaml", "claim-0-of-1.0", "index.parquet"):
        file = (out if name == "index.parquet" else cell) / name
        file.unlink(missing_ok=True)
        os.mkfifo(file) if kind == "pipe" else file.mkdir()
    for words in (["store", "verify", str(out)], ["store", "index", str(out)], ["report", f"out={out}"], ["store", "repair", str(out)]):  # fmt: skip
        assert main(words) in (0, 1, 2)


def test_private_files_stay_private(out: Path, cell: Path, tmp_path: Path) -> None:
    (cell / "env.json").chmod(0o600)
    before = os.umask(0o022)
    try:
        merge(out, tmp_path / "merged")
        export(out, tmp_path / "a.tar.gz")
        import_(tmp_path / "a.tar.gz", tmp_path / "imported")
    finally:
        os.umask(before)
    for store in ("merged", "imported"):
        (copy,) = cells_below(tmp_path / store)
        assert stat.S_IMODE((copy / "env.json").stat().st_mode) == 0o600
        assert stat.S_IMODE((copy / "metrics.json").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "a.tar.gz").stat().st_mode) == 0o600


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_modes_that_the_user_chose(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        (one,) = grid(tmp_path, "method=vanilla", "task.limit=2")
        with CellFolder(one).appending({"device": "cpu", "code": "x"}):
            pass
        work([one], executors={"embedded": Scripted()})
        replace(tmp_path / "x", "x")
    finally:
        os.umask(before)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 6
    assert {oct(stat.S_IMODE(file.stat().st_mode)) for file in files} == {oct(0o666 & ~umask)}


BOMBS = {
    "aliases": "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
    "endless": "a: &a [*a]",
    "deep": "[" * 5000,
    "deep mappings": "".join(f"{' ' * n}a:\n" for n in range(300)),
    "many": "[" + "1," * 30_000 + "1]",
    "tag": "!!python/object/apply:os.system ['touch x']",
    "large": "a: " + "x" * (2 << 20),
    "list": "- x",
    "number": "a: " + "9" * 5000,
    "date": "a: 2020-13-45",
    "bytes": b"\xff\xfe\x00",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_yaml_that_stands_for_too_much_is_refused(bomb: str, tmp_path: Path) -> None:
    content = BOMBS[bomb]
    (tmp_path / "x").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UnreadableError):
        read_mapping(tmp_path / "x")


@pytest.mark.parametrize("bomb", [name for name in BOMBS if name != "list"])
@pytest.mark.parametrize("key", ["experiment", "task"])
def test_so_is_one_that_a_command_names(
    key: str, bomb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, file = BOMBS[bomb], tmp_path / "x.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["plan", f"{key}={file}", "model=tiny_qwen2_5_vl", f"out={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert str(file) in said and len(said) < 2000 and "Traceback" not in said


def test_a_device_is_no_file() -> None:
    with pytest.raises(UnreadableError, match="no plain file"):
        read_bytes(Path("/dev/zero"))


def test_prune_removes_nothing_that_it_could_not_read(
    out: Path, cell: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in (
        "- x",
        "x: 1",
        BOMBS["aliases"],
        "task: {name: [], target: 7}\nmodel: {}\nmethod: {}",
    ):
        (cell / "config.yaml").write_text(str(content))
        assert main(["store", "prune", str(out), "--outdated", "--yes"]) == 0
        assert "kept, since it cannot be judged" in capsys.readouterr().out and cell.exists()


def test_a_method_of_ones_own_is_judged_where_the_command_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "mine.py"
    code = "from dataclasses import dataclass\nfrom unibench import Method\n\n@dataclass(frozen=True)\nclass Mine(Method):\n    def stages(self, depth):\n        return ()\n"  # fmt: skip
    source.write_text(code)
    (one,) = grid(tmp_path / "out", f"method={source}:Mine", "ratio=0.5", "task.limit=2")
    CellFolder(one).open()
    assert main(["store", "prune", str(tmp_path / "out"), "--outdated"]) == 0
    assert "is not opened unless the command names it" in capsys.readouterr().out
    words = ["store", "prune", str(tmp_path / "out"), "--outdated", f"--method={source}:Mine"]
    assert main(words) == 0 and "0 folders would be removed" in capsys.readouterr().out
