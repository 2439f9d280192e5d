"""Looks at a store: what cannot be read is named, what is left is removed, nothing long is parsed."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stats._cells import finished
from unibench import frame, row_index
from unibench.store import DamagedError, cells_below, index, repair, verify
from unibench.store import folder as folders
from unibench.store.folder import count_samples, read_samples
from unibench.store.lines import line_of

RIGHT = [1.0, 1.0, 0.0, 0.0]
NOBODY = 65534


@pytest.fixture
def out() -> Iterator[Path]:
    """Two finished cells in a place that other users can reach."""
    place = Path(tempfile.mkdtemp(prefix="unibench_looks_"))
    place.chmod(0o755)
    finished(place / "out", RIGHT, "method=vanilla")
    finished(place / "out", RIGHT, "method=divprune", "ratio=0.5")
    yield place / "out"
    shutil.rmtree(place)


@contextmanager
def another_user() -> Iterator[None]:
    """Without root's right to read everything, which the tests may run under."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def cell(out: Path, method: str) -> Path:
    return next(place for place in cells_below(out) if method in str(place))


@pytest.mark.parametrize(
    "what", ["", "metrics.json", "identity.json"], ids=lambda what: what or "."
)
def test_a_cell_that_cannot_be_read_is_named_by_every_look(
    what: str, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame.load(out)
    bad = cell(out, "divprune")
    (bad / what).chmod(0)
    for _ in range(2):  # the index remembers it too
        caplog.clear()
        with another_user(), caplog.at_level(logging.WARNING, "unibench"):
            shown = frame.load(out)
            states = {entry.folder: entry.state for entry in index(out)}
            problems = {problem.file for problem in verify(out)}
        assert set(shown["method"]) == {"vanilla"} and str(bad) in caplog.text
        assert states == {bad: "damaged", cell(out, "vanilla"): "done"}
        assert any(file.is_relative_to(bad) for file in problems)
    (bad / what).chmod(0o755)
    caplog.clear()
    assert "divprune" in set(frame.load(out)["method"]) and str(bad) not in caplog.text


def test_a_store_that_cannot_be_written_has_its_index_in_the_users_cache(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = frame.load(out)
    (out / row_index.INDEX).unlink()
    write = row_index._write

    def refusing(table: object, place: Path) -> None:
        if place.parent == out:
            raise PermissionError(13, "Permission denied", str(place))
        write(table, place)

    monkeypatch.setattr(row_index, "_write", refusing)
    assert frame.load(out).equals(first) and not (out / row_index.INDEX).exists()
    monkeypatch.setattr(frame, "read_row", None)  # nothing is read again
    assert frame.load(out).equals(first) and not caplog.text


def test_results_behind_a_link_are_found(out: Path) -> None:
    link = out.parent / "link"
    link.symlink_to(out)
    lines = frame.load(link)
    assert set(lines["method"]) == {"vanilla", "divprune"} and len(index(link)) == 2
    assert all(Path(place).is_relative_to(link) for place in lines["folder"])


def test_a_long_cell_is_counted_as_it_is_parsed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = cell(out, "divprune")
    (name, sample), *_ = read_samples(place)[0].items()
    # a second writer that answered one sample again, and one that a kill has torn
    again, *new = (line_of({**sample, "id": one}) for one in (name, "n", "\u00e4\\x"))
    header = line_of({"environment": {"device": "cpu", "code": "test"}})
    (place / "samples-0.jsonl").write_bytes(b"".join([header, again, *new, again[:40]]))
    assert count_samples(place) == len(read_samples(place)[0]) == 6
    monkeypatch.setattr(folders, "PARSED", 0)
    assert count_samples(place) == 6
    monkeypatch.setattr(folders, "BLOCK", 100)  # less than a line
    assert count_samples(place) == 6
    (place / "samples-0.jsonl").write_bytes(b'{"id":"x"' + b"\n")
    with pytest.raises(DamagedError, match="line 1 is damaged"):
        count_samples(place)


def test_claims_of_the_dead_are_leftovers_after_an_hour(out: Path) -> None:
    place = cell(out, "divprune")
    old, new = place / "claim-0-of-1.0", place / "claim-1-of-2.0"
    for file in (old, new):
        file.write_text("000000000001\n{}")
    torn = out / ".index.parquet.0123456789abcdef.tmp"
    torn.write_text("")
    for file in (old, torn):
        os.utime(file, (time.time() - 4000,) * 2)
    assert {problem.file for problem in verify(out)} >= {old, torn}
    assert new not in {problem.file for problem in verify(out)}
    repair(out)
    assert not old.exists() and not torn.exists() and new.exists()
