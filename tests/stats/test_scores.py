"""The scores that comparisons read: kept beside the index, and never other than the samples'."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stats._cells import finished
from unibench import frame, row_index, score_index
from unibench.errors import UsageError
from unibench.store import read_samples, sealed_scores
from unibench.store.lines import line_of


@pytest.fixture
def cells(tmp_path: Path) -> list[str]:
    """Three seeds of a method."""
    out = tmp_path / "out"
    words = ("method=random_pre", "ratio=0.889")
    right = (4, 6, 5)
    made = [
        finished(out, [1.0] * n + [0.0] * (10 - n), *words, f"seed={seed}")
        for seed, n in enumerate(right)
    ]
    return list(map(str, made))


def by_hand(folders: Sequence[str], ability: str = "all") -> dict[str, tuple[float, str]]:
    """The mean scores as one adds them up from the samples."""
    first, *others = [read_samples(Path(folder))[0] for folder in folders]
    found = {}
    for name, line in first.items():
        if ability in ("all", line["ability"]) and all(name in other for other in others):
            scores = [line["score"], *(other[name]["score"] for other in others)]
            found[name] = sum(scores) / len(scores), line["group"]
    return found


def rewritten(cell: str, start: int, end: int) -> None:
    """Leave some samples of a cell."""
    samples = list(read_samples(Path(cell))[0].values())[start:end]
    (Path(cell) / "samples.jsonl").write_bytes(b"".join(map(line_of, samples)))


def test_scores_are_those_of_the_samples(cells: list[str]) -> None:
    for ability in ("all", "counting", "reading"):
        assert frame.mean_scores(cells, ability) == by_hand(cells, ability)
    assert not frame.mean_scores(cells, "none")
    rewritten(cells[1], 2, 7)
    assert len(by_hand(cells)) == 5
    assert frame.mean_scores(cells) == by_hand(cells)
    assert frame.mean_scores(cells[::-1]) == by_hand(cells[::-1])


def test_scores_that_were_needed_once_are_not_read_again(
    cells: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = Path(cells[0]).parents[3], list[Path]()
    sealed = frame.sealed_scores
    monkeypatch.setattr(frame, "sealed_scores", lambda cell: read.append(cell) or sealed(cell))
    wanted = by_hand(cells)
    for _ in range(2):
        with frame.scores_kept(store):
            assert frame.mean_scores(cells) == wanted
    assert read == list(map(Path, cells))
    rewritten(cells[1], 0, 5)
    with frame.scores_kept(store):
        assert frame.mean_scores(cells) == by_hand(cells)
    assert read[3:] == [Path(cells[1])]
    shutil.rmtree(cells[2])
    with frame.scores_kept(store), pytest.raises(UsageError, match="is missing"):
        frame.mean_scores(cells)


def test_a_damaged_line_gives_no_score(cells: list[str]) -> None:
    file = Path(cells[0]) / "samples.jsonl"
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"score":1.0', b'"score":0.0', 1))
    with pytest.raises(UsageError, match="is damaged"):
        frame.mean_scores(cells[:1])


def test_scores_alone_are_read_as_whole_samples_are(cells: list[str]) -> None:
    folder = Path(cells[0])
    file = folder / "samples.jsonl"
    lines = list(read_samples(folder)[0].values())

    def held(changed: Sequence[dict[str, Any]]) -> bool:
        """Whether what is read alone is what the samples say; nothing is, where that is unsure."""
        file.write_bytes(b"".join(map(line_of, changed)))
        found = sealed_scores(folder)
        if found is None:
            return False
        wanted = list(read_samples(folder)[0].values())
        assert found.ids == tuple(line["id"] for line in wanted)
        assert found.abilities == tuple(line["ability"] for line in wanted)
        assert found.groups == tuple(line["group"] for line in wanted)
        assert found.scores.tolist() == [line["score"] for line in wanted]
        return True

    def first(**changed: Any) -> list[dict[str, Any]]:
        return [{**lines[0], **changed}, *lines[1:]]

    assert held(lines)
    assert held(first(answer='"\n]}\u0001 \\x \u00e9', group="\U0001f600", score=1))
    # whatever is not quite as it is written here is judged by the reader of whole samples
    assert not held(first(notes=[[]] * 101))
    assert not held(first(score=None))
    assert not held(first(score="1"))
    assert not held(first(score=True))
    assert not held(first(id=3))
    assert not held([*lines, lines[0]])
    assert not held(lines[::-1])
    assert not held([{name: value for name, value in lines[0].items() if name != "score"}])
    assert not held([])
    file.write_bytes(b"".join(map(line_of, lines)).replace(b'"score":1.0', b'"score":0.0', 1))
    assert sealed_scores(folder) is None
    file.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert sealed_scores(folder) is None
    for content in (b'{"id":"\xff"}', b'{"id":"a"', b"null", b'{"id":"a","score":"\\ud800"}'):
        file.write_bytes(checked_bytes(content) + b"\n")
        assert sealed_scores(folder) is None


def checked_bytes(content: bytes) -> bytes:
    """What may be no text, with its checksum."""
    return content + f"{zlib.crc32(content):032b}".replace("0", " ").replace("1", "\t").encode()


def test_a_score_that_a_harness_did_not_give_counts_in_no_mean() -> None:
    asked = score_index.Questions(("a", "b"), ("x", "x"), ("1", "2"))
    known = {
        "one": score_index.Scores(asked, np.array([1.0, np.nan])),
        "two": score_index.Scores(asked, np.array([np.nan, np.nan])),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame, "scores", known.__getitem__)
        found = frame.mean_scores(["one", "two"])
    assert found["a"] == (1.0, "1") and np.isnan(found["b"][0])


def test_a_file_of_scores_that_somebody_changed_is_not_believed(cells: list[str]) -> None:
    store = Path(cells[0]).parents[3]
    with frame.scores_kept(store):
        frame.mean_scores(cells)
    file = store / score_index.SHEET
    content = file.read_bytes()
    assert len(score_index.Book.opened(store).known) == 3
    file.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    assert not score_index.Book.opened(store).known
    frame.load(store)
    shutil.copy(store / row_index.INDEX, file)  # sound, and something else
    assert not score_index.Book.opened(store).known


def test_a_store_that_cannot_be_written_has_its_scores_elsewhere(
    cells: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Path(cells[0]).parents[3]
    os.chmod(store, 0o555)
    with frame.scores_kept(store):
        wanted = frame.mean_scores(cells)
    os.chmod(store, 0o755)
    assert not (store / score_index.SHEET).exists()
    assert len(score_index.Book.opened(store).known) == 3
    with frame.scores_kept(store):
        assert frame.mean_scores(cells) == wanted
