"""Which cells a store has, what one is, and what tells two of them apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stats._cells import finished
from unibench.cli import main
from unibench.store import index, manifest
from unibench.store.listing import _date


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vanilla, two methods, of one two seeds; and a cell that failed."""
    folder = tmp_path_factory.mktemp("results")
    finished(folder, [1.0] * 8 + [0.0] * 2, "method=vanilla")
    finished(folder, [1.0] * 6 + [0.0] * 4, "method=divprune", "ratio=0.889")
    for seed in (0, 1):
        scores = [1.0] * (4 + seed) + [0.0] * (6 - seed)
        finished(folder, scores, "method=random_pre", "ratio=0.5", f"seed={seed}")
    failed = finished(folder, [0.0] * 10, "method=fastv", "ratio=0.889")
    (failed / "metrics.json").unlink()
    (failed / "status.json").write_text('{"state": "failed", "error": "out of luck"}')
    return folder


def listed(capsys: pytest.CaptureFixture[str], out: Path, *words: str) -> list[dict[str, Any]]:
    assert main(["store", "list", str(out), *words, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def key_of(capsys: pytest.CaptureFixture[str], out: Path, *words: str) -> str:
    (one,) = listed(capsys, out, *words)
    return str(one["key"])


def test_every_cell_is_listed_with_state_score_and_why(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {(one["method"], one["seed"]): one for one in listed(capsys, out)}
    assert {name: one["score"] for name, one in found.items()} == {
        ("vanilla", 0): 80.0,
        ("divprune", 0): 60.0,
        ("random_pre", 0): 40.0,
        ("random_pre", 1): 50.0,
        ("fastv", 0): None,
    }
    failed = found["fastv", 0]
    assert (failed["state"], failed["why"], failed["n"]) == ("failed", "out of luck", 10)
    vanilla = found["vanilla", 0]
    assert (vanilla["state"], vanilla["budget"], vanilla["model"]) == (
        "done",
        "0",
        "tiny_qwen2_5_vl",
    )
    assert vanilla["user"] and vanilla["date"][:2] == "20" and vanilla["mib"] > 0


def test_a_row_and_a_time_that_nobody_wrote_are_listed_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = finished(tmp_path, [1.0] * 10, "method=vanilla")
    row = json.loads((cell / "metrics.json").read_text())
    for score in (10**400, "high", True, float("nan")):
        (cell / "metrics.json").write_text(json.dumps({**row, "score_100": score}))
        manifest.write(cell, {})
        (one,) = listed(capsys, tmp_path)
        assert one["score"] is None
    assert [_date(seconds) for seconds in (0.0, 1e15, -1e15)] == ["1970-01-01 00:00", "", ""]


def test_filters_take_several_values_and_columns_sort(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("method=divprune,random_pre", "sort=-score")
    assert [one["score"] for one in listed(capsys, out, *words)] == [60.0, 50.0, 40.0]
    assert len(listed(capsys, out, "state=failed")) == 1
    for wrong, told in (("method=divprun", "Did you mean divprune?"), ("methd=a", "method?")):
        assert main(["store", "list", str(out), wrong]) == 2
        assert told in capsys.readouterr().err
    assert main(["store", "list", str(out), "sort=scor"]) == 2
    assert "Did you mean score?" in capsys.readouterr().err


def test_the_list_is_a_table_for_people(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "list", str(out)]) == 0
    text = capsys.readouterr().out
    assert "out of luck" in text and text.splitlines()[-1] == "5 cells"


def test_a_cell_is_shown_by_the_first_signs_of_its_key(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = key_of(capsys, out, "method=divprune")
    assert main(["store", "show", str(out), key[:8]]) == 0
    text = capsys.readouterr().out
    assert key in text and "name: divprune" in text and "score_100: 60.0" in text
    assert "# digests of the code that made it" in text
    assert main(["store", "show", str(out), key, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identity"]["method"]["name"] == "divprune"
    assert main(["store", "show", str(out), "0000"]) == 2
    assert "unknown cell '0000'" in capsys.readouterr().err


def test_two_cells_differ_in_what_was_asked_for_and_in_what_it_did(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [key_of(capsys, out, "method=random_pre", f"seed={seed}") for seed in (0, 1)]
    assert main(["store", "diff", str(out), *keys, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identity"] == [{"entry": "seed", "first": 0, "second": 1}]
    assert found["answers"] == {"both": 10, "same": 9, "won": 1, "lost": 0}
    (score,) = [one for one in found["result"] if one["entry"] == "score_100"]
    assert (score["first"], score["second"]) == (40.0, 50.0)
    assert main(["store", "diff", str(out), *keys]) == 0
    assert "seed: 0 -> 1" in capsys.readouterr().out


def test_a_cell_that_is_not_there_is_compared_with_the_nearest(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["model=tiny_qwen2_5_vl", "task=synthvqa", f"out={out}"]
    assert main(["store", "why", *asked, "method=random_pre", "ratio=0.5", "seed=2"]) == 1
    first = capsys.readouterr().out.split(" differs in ")[1]
    assert first.startswith("1 ") and "seed: " in first and " -> 2" in first
    assert main(["store", "why", *asked, "method=divprune", "ratio=0.889"]) == 0
    assert "it is there" in capsys.readouterr().out


def test_an_archive_holds_the_cells_that_filters_choose(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.tar.gz"
    assert main(["store", "export", str(out), str(file), "method=vanilla,divprune"]) == 0
    assert main(["store", "import", str(file), str(tmp_path / "other")]) == 0
    assert len(index(tmp_path / "other")) == 2
    capsys.readouterr()
