"""A cell in parts: every sample in one part, one worker in a part, and a split that holds for all."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.store.test_folder import HERE, cell, sample
from unibench.store import CellFolder, Watch, claim_part
from unibench.store.part import LostClaimError, answered_parts, part_of

NAMES = [f"sample-{number}" for number in range(200)]


def test_every_sample_lies_in_one_part_and_parts_are_of_like_size() -> None:
    sizes = [sum(part_of(name, 8) == number for name in NAMES) for number in range(8)]
    assert sum(sizes) == len(NAMES) and min(sizes) > 10
    assert all(part_of(name, 1) == 0 for name in NAMES)


def test_parts_are_claimed_once_and_marked_when_done(tmp_path: Path) -> None:
    folder = CellFolder(cell(f"out={tmp_path}"))
    parts = [claim_part(folder, 3, Watch()) for _ in range(3)]
    assert claim_part(folder, 3, Watch()) is None
    assert sorted(part.number for part in parts if part) == [0, 1, 2]
    for part in parts:
        assert part is not None and answered_parts(folder) is None
        with closing(part), part.appending(HERE):
            for name in NAMES:
                if part.contains(name):
                    part.append(sample(name))
            part.done()
    assert answered_parts(folder) == len(NAMES) == len(folder.samples())
    assert claim_part(folder, 3, Watch()) is None


def test_whoever_comes_first_says_in_how_many_parts(tmp_path: Path) -> None:
    folder = CellFolder(cell(f"out={tmp_path}"))
    first = claim_part(folder, 4, Watch())
    second = claim_part(folder, 2, Watch())
    assert first is not None and second is not None
    assert (first.of, second.of) == (4, 4)
    first.close()
    second.close()


def test_a_cell_begun_whole_can_be_split_when_nobody_is_at_it(tmp_path: Path) -> None:
    folder = CellFolder(cell(f"out={tmp_path}"))
    whole = claim_part(folder, 1, Watch())
    assert whole is not None
    with whole.appending(HERE):
        whole.append(sample(NAMES[0]))
    assert claim_part(folder, 8, Watch()) is None
    whole.close()
    part = claim_part(folder, 8, Watch())
    assert part is not None and part.of == 8
    assert list(folder.samples()) == [NAMES[0]]
    part.close()


def test_who_comes_after_the_end_leaves_nothing(tmp_path: Path) -> None:
    folder = CellFolder(cell(f"out={tmp_path}"))
    part = claim_part(folder, 1, Watch())
    assert part is not None
    part.close()
    folder.finish({"n": 1})
    before = sorted(folder.path.iterdir())
    assert claim_part(folder, 8, Watch(), only=3) is None
    assert sorted(folder.path.iterdir()) == before


@pytest.mark.parametrize("garbage", ["", "none", "-3", "\x00"])
def test_a_damaged_split_is_made_anew(tmp_path: Path, garbage: str) -> None:
    folder = CellFolder(cell(f"out={tmp_path}"))
    folder.path.mkdir(parents=True)
    (folder.path / "split").write_text(garbage)
    part = claim_part(folder, 2, Watch())
    assert part is not None and part.of == 2
    part.close()


def test_who_lost_a_claim_writes_nothing_more(tmp_path: Path) -> None:
    folder = CellFolder(cell(f"out={tmp_path}"))
    part = claim_part(folder, 1, Watch())
    assert part is not None
    with part.appending(HERE):
        part.append(sample("a"))
        (folder.path / "claim-0-of-1.1").write_bytes(b"")
        with pytest.raises(LostClaimError):
            part.append(sample("b"))
    part.close()
    assert list(folder.samples()) == ["a"]
