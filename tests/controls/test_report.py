"""Methods beside their controls: in tables, by group, and in recommendations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.stats._cells import finished
from unibench import frame
from unibench.cli import main
from unibench.comparison.against import Against, against, stands_beside
from unibench.comparison.recommend import recommend
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.report import Table, groups

COUNT = 200
AT = "ratio=0.75"


def first(right: int, start: int = 0) -> list[float]:
    """Scores of which so many are right, from a sample on."""
    return [float(start <= number < start + right) for number in range(COUNT)]


Store = Callable[..., Path]


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vanilla right on 160 of 200, resize on 120, blind on 20, divprune on 150, fastv on 100."""
    out: Path = tmp_path_factory.mktemp("five")
    finished(out, first(160), "method=vanilla", milliseconds=40)
    finished(out, first(120), "control=resize", AT, milliseconds=10)
    finished(out, first(20), "control=blind", milliseconds=5)
    finished(out, first(150), "method=divprune", AT, milliseconds=30)
    finished(out, first(100, 10), "method=fastv", AT, milliseconds=20)
    return out


@pytest.fixture
def store(five: Path) -> Store:
    """Makes a store of the five cells, and of more with their scores."""

    def made(out: Path, *more: tuple[Sequence[float], list[str]]) -> Path:
        shutil.copytree(five, out, dirs_exist_ok=True)
        for scores, words in more:
            finished(out, scores, *words)
        return out

    return made


def beside(out: Path) -> dict[str, Against]:
    """What each method stands against, by its name."""
    lines = frame.over_seeds(frame.whole(frame.load(out)), intervals=False)
    names = dict(zip(lines["series"], lines["method"], strict=True))
    return {names[series]: one for series, one in against(lines).items()}


def texts(table: Table) -> dict[str, list[str]]:
    return {
        line.labels[0]: [entry.text for entry in line.entries]
        for block in table.blocks
        for line in block.lines
    }


def test_a_method_is_beside_the_best_control_and_beaten_only_beyond_doubt(
    tmp_path: Path, store: Store
) -> None:
    found = beside(store(tmp_path))
    assert set(found) == {"divprune", "fastv"}
    assert found["divprune"].control == found["fastv"].control == "resize"
    assert found["divprune"].result.difference == pytest.approx(0.15)
    assert (found["divprune"].result.won, found["divprune"].result.lost) == (30, 0)
    assert found["divprune"].beaten and not found["fastv"].beaten


def test_a_method_as_good_as_its_control_does_not_beat_it(tmp_path: Path, store: Store) -> None:
    more = first(121), ["method=knorm", AT]
    assert not beside(store(tmp_path, more))["knorm"].beaten


def test_a_floor_without_pictures_may_be_the_best_control(tmp_path: Path, store: Store) -> None:
    more = first(140, 3), ["control=blind_grey"]
    assert beside(store(tmp_path, more))["divprune"].control == "blind_grey"


def test_random_choice_stands_beside_the_very_method_that_it_was_drawn_for(
    tmp_path: Path, store: Store
) -> None:
    like = ["method=random_like", "method.inner=fastv", AT]
    third = [*like, "method.options={layer: 3}"]
    store(tmp_path, (first(158), like), (first(159), third))
    finished(tmp_path, first(100), "method=fastv", "method.layer=3", AT)
    lines = frame.over_seeds(frame.whole(frame.load(tmp_path)), intervals=False)
    found = against(lines)
    scores = {
        (line.method, line.variant): found[line.series].result.first
        for line in lines.itertuples()
        if line.series in found
    }
    assert scores == {
        ("divprune", ""): 0.6,
        ("fastv", ""): 158 / 200,
        ("fastv", "layer=3"): 159 / 200,
    }


@pytest.mark.parametrize(
    "parameters",
    [
        {"inner": "FILE:Mine"},
        {"inner": "FILE"},
        {"inner": {"source": "FILE:Mine", "name": "mine"}},
        {"inner": "fastv", "options": [1]},
        {"inner": None},
    ],
    ids=str,
)
def test_a_file_that_a_stored_control_names_is_not_run(
    parameters: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    place = {"budget": "0.75", "budget_scope": "sequence", "budget_mode": "at_stage"}
    control = {**place, "method": "random_like", "params": json.dumps(parameters)}
    control["params"] = control["params"].replace("FILE", str(file))
    assert not stands_beside(control, {**place, "method": "fastv", "params": '{"layer": 2}'})
    assert not (tmp_path / "ran").exists()


def test_other_budgets_scopes_and_tasks_are_no_match(tmp_path: Path) -> None:
    finished(tmp_path, first(160), "method=vanilla")
    finished(tmp_path, first(120), "control=resize", "ratio=0.5")
    finished(tmp_path, first(120), "control=resize", AT, "budget.scope=item")
    finished(tmp_path, first(150), "method=divprune", AT)
    assert beside(tmp_path) == {}


def test_the_report_marks_what_no_control_is_worse_than(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", f"out={store(tmp_path)}"]) == 0
    said = capsys.readouterr().out
    assert "| fastv" in said and "50.0<sup>c</sup>" in said and "75.0<sup>c</sup>" not in said
    assert "<sup>c</sup> not better than the best control" in said
    (line,) = [
        line for line in said.splitlines() if line.startswith("| divprune") and "yes" in line
    ]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:6] == ["divprune", "0.75", "75.0", "resize", "60.0", "+15.0"]
    assert cells[7:] == ["30", "0", "yes"]


def test_a_report_of_one_method_is_beside_its_controls_all_the_same(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "method=fastv", f"out={store(tmp_path)}"]) == 0
    said = capsys.readouterr().out
    assert "50.0<sup>c</sup>" in said and "| resize" not in said.partition("best control")[0]


def test_a_report_without_controls_has_no_table_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, first(160), "method=vanilla")
    finished(tmp_path, first(150), "method=divprune", AT)
    assert main(["report", f"out={tmp_path}"]) == 0
    assert "control" not in capsys.readouterr().out


def test_groups_are_made_by_the_smaller_picture_and_by_what_is_answered_blind(
    tmp_path: Path,
    store: Store,
) -> None:
    out = store(tmp_path)
    (table,) = groups(frame.over_seeds(frame.load(out), intervals=False))
    (block,) = table.blocks
    assert block.label.endswith(
        "0.75: 160 right, A 40 and B 120 by resize; 20 of 200 right by blind"
    )
    found = texts(table)
    assert [found["vanilla"][place] for place in (0, 2, 4, 5, 6, 8)] == [
        *("100.0", "100.0", "40", "0", "20 of 20"),
        f"{100 * 140 / 180:.1f}",
    ]
    assert (found["resize"][0], found["resize"][2]) == ("0.0", "100.0")
    assert found["divprune"][4:6] == ["30", "0"] and found["divprune"][0] == "75.0"
    assert found["fastv"][4:6] == ["0", "20"]
    assert found["divprune"][6:8] == ["20 of 20", "–"]
    assert found["divprune"][8] == f"{100 * 130 / 180:.1f}"


def test_averages_over_tasks_weigh_them_alike(tmp_path: Path, store: Store) -> None:
    store(tmp_path)
    for right, words in ((100, ["method=vanilla"]), (60, ["control=resize", AT])):
        finished(tmp_path, first(right), *words, task="synthscene")
    finished(tmp_path, first(80), "method=divprune", AT, task="synthscene")
    (table,) = groups(frame.over_seeds(frame.load(tmp_path), intervals=False))
    mean = table.blocks[-1]
    assert mean.label.endswith("0.75: average over 2 tasks")
    lines = {line.labels[0]: [entry.text for entry in line.entries] for line in mean.lines}
    # 75 % of 40 and 50 % of 40 samples; fastv and blind were asked of one task alone
    assert lines["divprune"][0] == "62.5" and lines["resize"][:3:2] == ["0.0", "100.0"]
    assert set(lines) == {"vanilla", "resize", "divprune"}


def test_without_anything_that_makes_groups_there_are_none(tmp_path: Path) -> None:
    finished(tmp_path, first(160), "method=vanilla")
    finished(tmp_path, first(150), "method=divprune", AT)
    with pytest.raises(UsageError, match="add controls=standard"):
        groups(frame.over_seeds(frame.load(tmp_path), intervals=False))


def test_a_recommendation_names_the_control_that_it_does_not_beat(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    out = store(tmp_path)
    finished(out, first(121), "method=knorm", AT, milliseconds=10)
    (found,) = recommend(frame.load(out), max_drop=50, metric="prefill_ms")
    # knorm loses a sample less than resize in the same time
    assert [(one.name, one.control) for one in found.front] == [
        ("knorm", False),
        ("divprune", False),
    ]
    (rival,) = found.rivals
    assert (rival.candidate.name, rival.control.name) == ("knorm", "resize")
    assert rival.low <= 0 < rival.high
    assert main(["recommend", "--max-drop", "50", f"out={out}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "knorm at 0.75 does not beat the control resize at 0.75, which costs no more" in said
    assert "divprune at 0.75 does not beat" not in said


def test_a_control_may_be_what_is_recommended_but_a_floor_never_is(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    out = store(tmp_path)
    (found,) = recommend(frame.load(out), max_drop=100, metric="prefill_ms")
    assert [one.name for one in found.front] == ["resize", "divprune"]
    assert main(["recommend", "--max-drop", "100", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "resize (control)" in said and "recommended: resize" in said
    assert "blind" not in said


def test_a_recommendation_without_controls_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, first(160), "method=vanilla")
    finished(tmp_path, first(150), "method=divprune", AT)
    assert main(["recommend", "--max-drop", "50", f"out={tmp_path}"]) == 0
    assert "no control was run" in capsys.readouterr().out


def kinds(*words: str) -> list[tuple[str, str, int]]:
    cells = compose_cells([*words, "controls=standard"], sweep=True)
    return [
        (
            cell.control if cell.control != "none" else str(cell.method["name"]),
            str(cell.ratio),
            cell.seed,
        )
        for cell in cells
    ]


def test_standard_controls_are_those_that_the_model_can_have() -> None:
    drawn = [("random_pre", "0.75", seed) for seed in (0, 1, 2)]
    method = ("divprune", "0.75", 0)
    blind = ("blind", "None", 0)
    same = ["method=divprune", AT]
    assert kinds("model=tiny_qwen2_5_vl", *same) == [method, ("resize", "0.75", 0), blind, *drawn]
    fixed = [method, ("resize_blur", "0.75", 0), blind, ("pooling", "0.75", 0), *drawn]
    assert kinds("model=tiny_llava", *same) == fixed
    assert kinds("model=tiny_internvl", *same) == fixed  # one tile
    tiled = kinds("model=internvl3_8b", *same)
    assert tiled[1:3] == [("resize", "0.75", 0), ("resize_blur", "0.75", 0)]


def test_each_control_of_a_grid_is_there_once() -> None:
    found = kinds("model=tiny_qwen2_5_vl", "method=divprune,fastv,random_pre", "ratio=0.5,0.75")
    assert len(found) == len(set(found)) == 6 + 2 + 1 + 2 * 3 - 2 + 2 * 3
    assert [name for name, _, _ in found].count("blind") == 1
    assert kinds("method=vanilla") == [("vanilla", "0.889", 0)]


def test_what_controls_cannot_be_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"controls 'all'.*none, standard"):
        compose_cells(["method=divprune", "controls=all"], sweep=False)
