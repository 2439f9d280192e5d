"""A damaged or edited cell reaches no table, is named by every look, and stops no other cell."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.security._stores import honest, reseal
from tests.support.turns import some_of
from unibench import frame, row_index
from unibench.cli import main
from unibench.recheck import recheck
from unibench.store import cells_below, manifest


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return honest(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def cell_of(out: Path, method: str) -> Path:
    (found,) = (cell for cell in cells_below(out) if method in str(cell))
    return found


def edit_row(cell: Path) -> None:
    row = json.loads((cell / "metrics.json").read_text())
    (cell / "metrics.json").write_text(json.dumps({**row, "score": 0.999, "score_100": 99.9}))


def edit_unseen(cell: Path) -> None:
    """An edit of the same size, with the time put back."""
    file = cell / "samples.jsonl"
    state = file.stat()
    file.write_bytes(file.read_bytes().replace(b"something", b"anything!", 1))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def to_link(file: Path) -> None:
    moved = file.rename(file.with_name("elsewhere"))
    file.symlink_to(moved)


SHOWN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a row edited": ("metrics.json", edit_row),
    "samples cut": ("samples.jsonl", lambda cell: os.truncate(cell / "samples.jsonl", 40)),
    "samples edited, and the time put back": ("samples.jsonl", edit_unseen),
    "environment gone": ("env.json", lambda cell: (cell / "env.json").unlink()),
    "configuration a link": ("config.yaml", lambda cell: to_link(cell / "config.yaml")),
    "manifest empty": ("manifest.json", lambda cell: (cell / "manifest.json").write_bytes(b"")),
    "manifest of other types": (
        "manifest.json",
        lambda cell: replace_manifest(cell, {"run.log": {"size": "9", "sha256": 3}}),
    ),
    "manifest of files elsewhere": (
        "manifest.json",
        lambda cell: replace_manifest(cell, {"../../run.log": {"size": 1, "sha256": ""}}),
    ),
}


def replace_manifest(cell: Path, files: dict[str, object]) -> None:
    text = json.dumps({"schema": 1, "files": files}, indent=1)
    (cell / manifest.NAME).write_bytes(manifest.checked(text))


@pytest.mark.parametrize("again", [False, True], ids=["at the first look", "at a later look"])
@some_of("edit", SHOWN, 2)
def test_what_sizes_and_times_show_is_named_and_in_no_table(
    edit: str, again: bool, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, change = SHOWN[edit]
    bad = cell_of(out, "divprune")
    if again:
        assert len(frame.load(out)) and capsys.readouterr()
    change(bad)
    for _ in range(2):  # the index keeps it
        assert main(["report", f"out={out}"]) == 0
        said = capsys.readouterr()
        assert "fastv" in said.out and "divprune" not in said.out
        assert f"{bad} is left out of the tables: " in said.err and name in said.err
    assert main(["store", "index", str(out)]) == 0
    (line,) = (each for each in capsys.readouterr().out.splitlines() if str(bad) in each)
    assert line.startswith("damaged") and name in line
    assert {problem.file.parent for problem in recheck(out).problems} == {bad}
    if edit == "a row edited":
        assert main(["report", "--html", f"out={out}", f"to={tmp_path / 'page'}"]) == 0
        page = (tmp_path / "page" / "index.html").read_text()
        assert "Left out of this page" in page and str(bad) in page


class Deep:
    """Lists in lists, so deep that they are written by hand."""

    def __init__(self, levels: int) -> None:
        self.text = "[" * levels + "]" * levels


TOO_MUCH: dict[str, tuple[str, Any]] = {
    "a count beyond every column": ("n", 10**30),
    "a number beyond every column": ("score_100", 10**400),
    "an infinite number": ("score", math.inf),
    "a huge ability": ("abilities", {"a": {"n": 1, "score_100": 10**400, "ci_low": 0, "ci_high": 0}}),
    "more abilities than any": (
        "abilities",
        {f"a{n}": {"n": 1, "score_100": 1.0, "ci_low": 0.0, "ci_high": 0.0} for n in range(2000)},
    ),
    "a text without end": ("device", "x" * 100_000),
    "values near the limit of Python": ("method_options", Deep(900)),
    "columns of columns": ("lifted", Deep(150)),
}  # fmt: skip


@pytest.mark.parametrize("what", TOO_MUCH)
def test_a_row_that_no_table_could_bear_stops_none(
    what: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    column, value = TOO_MUCH[what]
    bad = cell_of(out, "divprune")
    row = json.loads((bad / "metrics.json").read_text())
    if isinstance(value, Deep):
        text = json.dumps({**row, column: {"a": "@"}}).replace('"@"', value.text)
    else:
        text = json.dumps({**row, column: value})
    (bad / "metrics.json").write_text(text)
    reseal(bad)
    assert main(["report", f"out={out}"]) == 0
    said = capsys.readouterr()
    assert "fastv" in said.out and "divprune" not in said.out
    assert f"{bad} is left out of the tables: " in said.err and len(said.err) < 2000
    assert main(["store", "verify", str(out)]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_what_the_last_check_found_is_in_no_table_until_it_is_mended(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = cell_of(out, "divprune")
    before = (bad / "metrics.json").read_bytes()
    edit_row(bad)
    reseal(bad)
    assert main(["report", f"out={out}"]) == 0 and "99.9" in capsys.readouterr().out
    assert main(["store", "verify", str(out)]) == 1
    capsys.readouterr()
    for _ in range(2):
        assert main(["report", f"out={out}"]) == 0
        said = capsys.readouterr()
        assert "99.9" not in said.out and "fastv" in said.out
        assert "`store verify` found metrics.json: score is 0.999" in said.err
        # another cell changes, and this one stays left out
        (cell_of(out, "fastv") / "run.log").write_text("asked\n")
        reseal(cell_of(out, "fastv"))
    assert main(["store", "index", str(out)]) == 0
    assert f"damaged       4  {bad}: `store verify` found" in capsys.readouterr().out
    (bad / "metrics.json").write_bytes(before)
    reseal(bad)
    assert "divprune" in set(frame.load(out)["method"])


def test_what_a_check_found_is_forgotten_when_it_finds_it_no_more(out: Path) -> None:
    bad = cell_of(out, "divprune")
    frame.note(out, {bad: "metrics.json: something"})
    assert set(frame.load(out)["method"]) == {"vanilla", "fastv"}
    frame.note(cell_of(out, "fastv").parent, {})  # elsewhere
    assert frame.verified(out) == {bad: "`store verify` found metrics.json: something"}
    frame.note(out, {})
    assert "divprune" in set(frame.load(out)["method"]) and frame.verified(out) == {}


@pytest.mark.parametrize("levels", range(4))
def test_a_check_of_a_part_of_a_store_is_known_to_the_whole(levels: int, out: Path) -> None:
    bad = cell_of(out, "divprune")
    edit_row(bad)
    reseal(bad)
    assert main(["store", "verify", str([bad, *bad.parents][levels])]) == 1
    assert set(frame.load(out)["method"]) == {"vanilla", "fastv"}


def test_what_a_killed_command_left_in_a_cell_keeps_it_out_of_no_table(out: Path) -> None:
    place = cell_of(out, "divprune")
    (place / ".metrics.json.0123456789abcdef.tmp").write_text("{")
    (place / "note").symlink_to(place / "metrics.json")
    checked = recheck(out)
    assert len(checked.problems) == 2 and checked.damaged == {}


def test_a_row_beside_another_vanilla_is_shown(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(cell_of(out, "vanilla"))
    other = honest(out.parent / "other", ("vanilla",))
    bad = cell_of(other, "vanilla")
    shutil.copytree(bad, out / bad.relative_to(other))
    row = json.loads((cell_of(out, "fastv") / "metrics.json").read_text())
    row["vanilla_100"] = 12.5
    for name in ("drop_pct", "retention_pct"):
        row[name] = None
    (cell_of(out, "fastv") / "metrics.json").write_text(json.dumps(row))
    reseal(cell_of(out, "fastv"))
    assert main(["store", "verify", str(out)]) == 1
    assert "vanilla here scores 50" in capsys.readouterr().out
    assert "fastv" in set(frame.load(out)["method"])


def test_a_flipped_bit_of_the_index_changes_no_number(out: Path) -> None:
    right = frame.load(out)
    content = (out / row_index.INDEX).read_bytes()
    for bit in range(0, 8 * len(content), 8 * len(content) // 150):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (out / row_index.INDEX).write_bytes(flipped)
        assert row_index.read(out).lines is None, bit
    assert frame.load(out).equals(right)
    assert row_index.read(out).lines is not None


def test_a_store_that_is_read_only_stays_so_even_for_root(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in (out, *filter(Path.is_dir, out.rglob("*"))):
        folder.chmod(0o555)
    before = listing(out)
    time.sleep(0.01)  # so that a change of a time would be seen
    for words in (
        ["report", f"out={out}"], ["report", "--html", f"out={out}", f"to={tmp_path / 'page'}"],
        ["store", "index", str(out)], ["store", "verify", str(out)],
        ["store", "export", str(out), str(tmp_path / "a.tar.gz")], ["compare", "divprune", "vanilla", f"out={out}"],
        ["recommend", "--max-drop", "200", f"out={out}"], ["plot", "bars", f"out={out}", f"to={tmp_path / 'x.svg'}"],
        ["store", "merge", str(out), str(tmp_path / "merged")], ["store", "prune", str(out), "--failed"],
    ):  # fmt: skip
        assert main(words) == 0, words
        assert listing(out) == before, words


def listing(folder: Path) -> dict[str, tuple[int, ...]]:
    """What is below a folder, with what a change of anything would change."""
    states = {str(place): place.lstat() for place in (folder, *sorted(folder.rglob("*")))}
    return {name: (s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in states.items()}  # fmt: skip
