"""Digests of whole contents, remembered only as long as nothing can have changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from unibench import digests, jsoncache
from unibench.errors import UsageError

SIZE = 5 << 20


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process."""
    monkeypatch.setattr(digests, "_known", {})
    monkeypatch.setattr(digests, "_remembered", set())


def old(file: Path) -> None:
    """Let a file look as if it had lain there for long."""
    long_ago = time.time() - 3600
    os.utime(file, (long_ago, long_ago))


def test_a_byte_in_the_middle_of_a_large_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(SIZE))
    first = digests.contents(file)
    with file.open("r+b") as stream:
        stream.seek(SIZE // 2)
        stream.write(b"x")
    assert file.stat().st_size == SIZE and digests.contents(file) != first


def test_names_and_contents_of_a_folder_count_and_what_nothing_loads_does_not(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a").write_text("1")
    first = digests.contents(folder)
    for name in ("README.md", ".hidden", ".git/objects", "__pycache__/a.pyc", "inner/.b"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("2")
    assert digests.contents(folder) == first
    (folder / "inner" / "a").rename(folder / "inner" / "b")
    assert digests.contents(folder) != first


def test_links_are_followed_and_one_that_leads_back_up_comes_to_an_end(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a.png").write_text("1")
    (folder / "pictures").symlink_to(elsewhere)
    (folder / "b.png").symlink_to(elsewhere / "a.png")
    (folder / "up").symlink_to(tmp_path)
    first = digests.contents(folder)
    (elsewhere / "a.png").write_text("2")
    assert digests.contents(folder) != first


@pytest.mark.parametrize("named", ["{elsewhere}/a.png", "../elsewhere/a.png", ".hidden/a.png"])
def test_a_file_that_is_named_counts_wherever_it_lies(tmp_path: Path, named: str) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    (folder / ".hidden").mkdir(parents=True)
    elsewhere.mkdir()
    also = [named.format(elsewhere=elsewhere)]
    seen = [digests.contents(folder, also)]
    for text in ("1", "2"):
        (folder / also[0]).write_text(text)
        seen.append(digests.contents(folder, also))
    assert len({*seen}) == 3


def test_what_cannot_be_read_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights.bin"
    file.write_text("1")

    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UsageError, match=r"weights\.bin cannot be read \(Permission denied\)"):
        digests.contents(file)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert digests.contents(tmp_path, ["pipe", "/dev/zero"])


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose contents are read from now on."""
    seen: list[str] = []
    original = hashlib.file_digest

    def counted(stream, kind):  # type: ignore[no-untyped-def]
        seen.append(Path(stream.name).name)
        return original(stream, kind)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return seen


def test_a_file_is_read_once_until_it_changes_in_any_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_text(name)
        old(folder / name)
    monkeypatch.setattr(digests, "SETTLED_NS", 0)
    seen = reads(monkeypatch)
    first = digests.contents(folder)
    assert digests.contents(folder) == first and sorted(seen) == ["a", "b"]
    forget(monkeypatch)
    assert digests.contents(folder) == first and sorted(seen) == ["a", "b"]
    (folder / "a").write_text("c")
    old(folder / "a")  # the same size and time of change
    assert digests.contents(folder) != first and sorted(seen) == ["a", "a", "b"]


def test_a_file_changed_a_moment_ago_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "labels"
    file.write_text("1")
    seen = reads(monkeypatch)
    digests.contents(file)
    digests.contents(file)
    assert seen == ["labels", "labels"]


@pytest.mark.parametrize("content", ["", "[1]", '{"/a": 3}', '{"/a": [1, 2]}', "null"])
def test_a_damaged_memory_is_as_if_there_were_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    file = tmp_path / "labels"
    file.write_text("1")
    monkeypatch.setattr(digests, "SETTLED_NS", -(10**18))
    first = digests.contents(file)
    (memory,) = (tmp_path / "cache" / "unibench").glob("files-*.json")
    assert json.loads(memory.read_text())
    memory.write_text(content)
    forget(monkeypatch)
    assert digests.contents(file) == first


def test_a_cache_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    (tmp_path / "labels").write_text("1")
    assert digests.contents(tmp_path / "labels")
    jsoncache.write("name", {})
