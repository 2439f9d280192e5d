"""A store of many people beneath one's own: read, counted as done, never written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stats._cells import finished
from tests.support.workers import Scripted, grid
from unibench import frame
from unibench.cli import main
from unibench.inference.row import stored_row
from unibench.plan import survey
from unibench.runner import work

SCORES = [1.0, 0.0]
LIMIT = "task.limit=2"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A store of vanilla and DivPrune that nobody may write to."""
    out = tmp_path / "shared"
    finished(out, SCORES, "method=vanilla", LIMIT)
    finished(out, SCORES[::-1], "method=divprune", "ratio=0.75", LIMIT)
    for place in (out, *out.rglob("*")):
        place.chmod(0o555 if place.is_dir() else 0o444)
    return out


def listing(folder: Path) -> dict[str, tuple[int, ...]]:
    return {
        str(place): (place.lstat().st_size, place.lstat().st_mtime_ns)
        for place in sorted(folder.rglob("*"))
    }


def words(shared: Path, method: str) -> list[str]:
    budget = [] if method == "vanilla" else ["ratio=0.75"]
    return [f"method={method}", *budget, LIMIT, f"shared={shared}"]


def test_a_cell_that_others_have_finished_is_done(shared: Path, tmp_path: Path) -> None:
    cells = grid(tmp_path / "mine", *words(shared, "divprune"))
    assert {plan.state for plan in survey(cells)} == {"done"}
    row = stored_row(cells[0])
    assert row is not None and Path(row.folder).is_relative_to(shared)


def test_what_is_answered_goes_into_ones_own_store_alone(shared: Path, tmp_path: Path) -> None:
    before, mine = listing(shared), tmp_path / "mine"
    outcome = work(grid(mine, *words(shared, "fastv")), executors={"embedded": Scripted()})
    assert not outcome.failures and len(outcome.rows) == 2
    found = {row.method: Path(row.folder) for row in outcome.rows.values()}
    assert found["vanilla"].is_relative_to(shared) and found["fastv"].is_relative_to(mine)
    assert listing(shared) == before


def test_tables_show_both_and_of_a_cell_in_both_ones_own(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    finished(mine, SCORES, "method=fastv", "ratio=0.75", LIMIT)
    assert main(["report", f"out={mine}", f"shared={shared}"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("vanilla", "divprune", "fastv"))
    both = frame.over(frame.load(mine), frame.load(shared))
    whole = frame.whole(both).set_index("method")
    assert whole.loc["fastv", "vanilla_100"] == 50 and whole.loc["fastv", "drop_pct"] == 0
    finished(mine, [0.0, 0.0], "method=vanilla", LIMIT)
    both = frame.whole(frame.over(frame.load(mine), frame.load(shared)))
    (vanilla,) = both[both["method"] == "vanilla"]["folder"]
    assert Path(vanilla).is_relative_to(mine)


def test_who_has_nothing_yet_may_look(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", f"out={tmp_path / 'none'}", f"shared={shared}"]) == 0
    assert "divprune" in capsys.readouterr().out
