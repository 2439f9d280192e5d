"""The tidy frame: what it holds, what it joins, and that its index never disagrees with the rows."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.stats._cells import finished
from unibench import frame
from unibench.cli import main
from unibench.errors import UsageError
from unibench.store import manifest

RIGHT = [1.0] * 8 + [0.0] * 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("made")
    finished(out, RIGHT, "method=vanilla")
    finished(out, [1.0] * 6 + [0.0] * 4, "method=fastv", "ratio=0.889", "method.layer=3")
    for seed, right in ((0, 4), (1, 6), (2, 5)):
        finished(
            out,
            [1.0] * right + [0.0] * (10 - right),
            "method=random_pre",
            "ratio=0.889",
            f"seed={seed}",
        )
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path, dirs_exist_ok=True))


def whole(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[cells["ability"] == frame.ALL]


def test_a_line_for_each_cell_metric_and_ability(out: Path) -> None:
    cells = frame.load(out)
    assert list(cells.columns) == list(frame.COLUMNS)
    assert len(cells) == 5 * 3 and set(cells["ability"]) == {"all", "counting", "reading"}
    line = whole(cells[cells["method"] == "fastv"]).iloc[0]
    assert (line["variant"], line["budget"], line["ratio"], line["n"], line["metric"], line["harness"]) == (
        "layer=3", "0.889", 0.889, 10, "accuracy", "none",
    )  # fmt: skip
    assert (
        line["score_100"],
        line["vanilla_100"],
        line["drop_pct"],
        line["retention_pct"],
    ) == pytest.approx((60, 80, 25, 75))
    assert line["low"] < 60 < line["high"]
    assert json.loads(line["params"]) == {"layer": 3, "variant": "official"}
    assert line["equiv_tokens"] == 55 and line["prefill_ms"] == 10


def test_drops_of_an_ability_are_against_vanilla_on_that_ability(out: Path) -> None:
    cells = frame.load(out)
    reading = cells[(cells["ability"] == "reading") & (cells["method"] == "fastv")].iloc[0]
    assert (
        reading["n"],
        reading["score_100"],
        reading["vanilla_100"],
        reading["drop_pct"],
    ) == pytest.approx((5, 60, 80, 25))


def test_cells_of_another_setting_never_join(out: Path) -> None:
    finished(out, RIGHT, "method=divprune", "ratio=0.889", "batch_size=4")
    cells = whole(frame.load(out))
    assert cells["setting"].nunique() == 2
    assert set(cells[cells["method"] != "divprune"]["setting"]).isdisjoint(
        cells[cells["method"] == "divprune"]["setting"]
    )


def test_seeds_are_joined_to_mean_and_standard_deviation(out: Path) -> None:
    joined = frame.over_seeds(whole(frame.load(out)))
    line = joined[joined["method"] == "random_pre"].iloc[0]
    assert (line["score_100"], line["std"], line["seeds"], line["seed"]) == (
        pytest.approx(50),
        pytest.approx(10),
        3,
        [0, 1, 2],
    )
    assert line["low"] < 50 < line["high"] and line["drop_pct"] == pytest.approx(37.5)
    alone = joined[joined["method"] == "fastv"].iloc[0]
    assert pd.isna(alone["std"]) and alone["seeds"] == 1


def test_a_table_of_cells_of_several_releases_says_so_in_one_line(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "its cells were answered under several releases: torch 2.8.0 and 2.9.0"
    for torch in ("2.8.0", "2.9.0"):
        for file in out.rglob("metrics.json"):
            row = json.loads(file.read_text())
            if torch == "2.8.0" or row["seed"] == 1:
                row["versions"] = f"torch {torch}, pillow 11.0"
                file.write_text(json.dumps(row))
                manifest.write(file.parent, {})
        for words in (["report"], ["compare", "random_pre", "fastv+layer=3"]):
            assert main([*words, f"out={out}"]) == 0
            assert capsys.readouterr().out.count(said) == (torch == "2.9.0"), words


def test_the_mean_score_of_a_sample_is_over_seeds(out: Path) -> None:
    joined = frame.over_seeds(whole(frame.load(out)))
    scores = frame.mean_scores(joined[joined["method"] == "random_pre"].iloc[0]["folder"])
    assert [round(score, 3) for score, _ in scores.values()] == [
        1,
        1,
        1,
        1,
        0.667,
        0.333,
        0,
        0,
        0,
        0,
    ]


def test_of_the_index_only_rows_that_are_new_changed_or_gone_are_read_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = frame.load(out)
    read: list[Path] = []
    read_row = frame.read_row
    monkeypatch.setattr(frame, "read_row", lambda folder: read.append(folder) or read_row(folder))
    pd.testing.assert_frame_equal(frame.load(out), first)
    assert not read
    place = finished(out, RIGHT, "method=divprune", "ratio=0.5")
    assert "divprune" in set(frame.load(out)["method"])
    row = json.loads((place / "metrics.json").read_text())
    (place / "metrics.json").write_text(json.dumps({**row, "score_100": 12.5}))
    manifest.write(place, {})
    assert 12.5 in set(frame.load(out)["score_100"])
    (place / "metrics.json").unlink()
    assert "divprune" not in set(frame.load(out)["method"])
    assert read == [place, place]  # no other cell was looked into


def test_a_folder_that_moved_is_read_where_it_lies(
    out: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    frame.load(out)
    moved = out.rename(tmp_path_factory.mktemp("moved") / "results")
    line = whole(frame.load(moved)).iloc[0]
    assert Path(line["folder"]).is_relative_to(moved) and len(frame.samples(line["folder"])) == 10


def test_a_row_of_several_metrics_has_a_line_for_each(out: Path) -> None:
    for place in out.rglob("metrics.json"):
        row = json.loads(place.read_text())
        f1 = {"score": row["score"] / 2, "score_100": row["score_100"] / 2}
        place.write_text(
            json.dumps(
                {
                    **row,
                    "metrics": {
                        "f1": f1,
                        "accuracy": {"score": row["score"], "score_100": row["score_100"]},
                    },
                }
            )
        )
        manifest.write(place.parent, {})
    cells = whole(frame.load(out))
    line = cells[(cells["method"] == "fastv") & (cells["metric"] == "f1")].iloc[0]
    assert (line["score_100"], line["vanilla_100"], line["drop_pct"], line["main"]) == (
        30,
        40,
        25,
        False,
    )
    assert cells[(cells["method"] == "fastv")]["main"].tolist().count(True) == 1


def test_a_damaged_row_is_left_out_and_named(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = next(out.rglob("fastv*/*/metrics.json"))
    place.write_text('{"model": "tin')
    with caplog.at_level(logging.WARNING, "unibench"):
        assert "fastv" not in set(frame.load(out)["method"])
    assert str(place.parent) in caplog.text


def test_what_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        frame.load(tmp_path / "none")
    with pytest.raises(UsageError, match=r"samples\.jsonl is missing"):
        frame.samples(tmp_path)
