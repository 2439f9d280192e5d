"""A row is what its samples give, and a score what the answer gets: anything else is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.security._stores import entries, honest, reseal
from tests.stats._cells import ENVIRONMENT
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.identity import cell_of, vanilla_of
from unibench.inference.record import Record
from unibench.inference.row import row_of, stored_row
from unibench.recheck import recheck
from unibench.store import data
from unibench.store.cards import cell_in
from unibench.store.lines import line_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return honest(tmp_path_factory.mktemp("whole"), ("vanilla", "divprune"))


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def file_of(out: Path, method: str, name: str) -> Path:
    (file,) = [place for place in out.rglob(name) if f"/{method}" in str(place)]
    return file


def edit_row(out: Path, **values: Any) -> None:
    file = file_of(out, "divprune", "metrics.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    reseal(file.parent)


def edit_samples(out: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> list[Record]:
    file = file_of(out, "divprune", "samples.jsonl")
    lines = [change(entry) for entry in entries(file)]
    file.write_bytes(b"".join(map(line_of, lines)))
    reseal(file.parent)
    return [Record.from_json(line) for line in lines]


def test_an_honest_store_is_sound(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = recheck(out)
    assert checked.problems == [] and checked.unverified == {}
    assert main(["store", "verify", str(out)]) == 0
    assert capsys.readouterr().out == "nothing is damaged\n"


COLUMNS: dict[str, Any] = {
    "score": 0.999, "score_100": 99.9, "ci_low": 99.0, "ci_high": 100.0, "drop_pct": 12.0, "retention_pct": 88.0,
    "vanilla_100": 75.0, "kept_mean": 1.0, "kept_min": 1, "kept_max": 99, "equiv_tokens": 1.0, "tflops": 0.1,
    "tokens_in": 9.0, "text_tokens": 1.0, "kv_mib": 0.5, "tflops_ratio": 0.1, "method_tflops": 3.0, "total_s": 0.001,
    "prefill_ms": 0.1, "method_ms": 0.0, "vision_ms": 0.1, "decode_ms_per_token": 0.1, "peak_mib": 1.0,
    "tokens_per_layer": [1.0, 1.0], "notes": ["well done"], "abilities": {}, "device": "H100", "n": 5,
    "method": "fastv", "model": "tiny_llava", "task": "folder", "seed": 7, "budget": "0.5", "budget_mode": "x",
    "budget_scope": "item", "weights": "files:0", "dtype": "float16", "attn": "eager", "key": "0123456789abcdef",
    "method_options": {"x": 1}, "uncounted": ["x"], "diagnosis": {"coverage": 0.9},
    "change": {"harm_pct": 0.0, "gain_pct": 100.0, "new_tokens": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS)
def test_an_edited_column_of_a_row_is_named(
    column: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_row(out, **{column: COLUMNS[column]})
    assert main(["store", "verify", str(out)]) == 1
    said = capsys.readouterr().out
    assert f"metrics.json: {column} is " in said or (column == "n" and "counts 5 samples" in said)


def test_scores_that_the_answers_do_not_get_are_named_though_the_row_fits_them(out: Path) -> None:
    edit_samples(out, lambda line: {**line, "score": 1.0})
    assert {problem.file.name for problem in recheck(out).problems} >= {
        "metrics.json",
        "samples.jsonl",
    }
    cell = cell_of(compose_cells(["model=tiny_qwen2_5_vl", "method=divprune", "ratio=0.75", "task.limit=4", f"out={out}"], sweep=False)[0])  # fmt: skip
    records = edit_samples(out, lambda line: line)
    row = row_of(cell, records, [ENVIRONMENT], stored_row(vanilla_of(cell)), "accuracy")
    file_of(out, "divprune", "metrics.json").write_text(json.dumps(row.as_json()))
    reseal(cell.folder)
    (problem,) = recheck(out).problems
    assert (
        problem.file.name == "samples.jsonl"
        and "2 scores are not what the answers get" in problem.what
    )


def test_an_answer_in_another_sample_s_place_is_named(out: Path) -> None:
    edit_samples(out, lambda line: {**line, "id": f"x{line['id']}"})
    assert any("scores are not" in problem.what for problem in recheck(out).problems)


def test_a_stranger_s_scorer_is_not_run(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in out.rglob("config.yaml"):
        text = file.read_text().replace("unibench.tasks.synthvqa:SynthVQA", "os:system")
        file.write_text(text)
        reseal(file.parent)
    assert main(["store", "verify", str(out)]) == 0
    assert (
        "scores of 2 cells not verified: task synthvqa (os:system) is not one"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("key", ["path", "clip", "adapter", "processor_path"])
def test_a_stored_folder_that_would_take_long_to_hash_is_refused(
    key: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large").mkdir()
    for number in range(3):
        (tmp_path / "large" / f"{number}.bin").write_text("")
    monkeypatch.setattr(data, "FILES", 2)
    file = file_of(out, "divprune", "config.yaml")
    stored = yaml.safe_load(file.read_text())
    stored["model"][key] = str(tmp_path / "large")
    file.write_text(yaml.safe_dump(stored))
    with pytest.raises(UsageError, match="holds more than 2 files"):
        cell_in(file.parent)


def test_the_folder_of_somebody_who_is_not_here_stops_no_check(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_of(out, "divprune", "config.yaml")
    file.write_text(file.read_text().replace(" data: null", " data: ~nobody_at_all/pictures"))
    assert "nobody" in file.read_text()
    reseal(file.parent)
    assert main(["store", "verify", str(out)]) == 0
    said = capsys.readouterr().out
    assert "scores of 1 cell not verified: ~nobody_at_all/pictures: there is no such" in said


@pytest.mark.parametrize("given", ["./no.py:close", "os:getcwd", "mine.py", "mine.py:a b", ":x"])
def test_a_scorer_that_is_not_there_is_refused(
    given: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    assert main(["store", "verify", str(out), "--score", given]) == 2


def test_a_row_that_is_none_is_named_and_stops_no_other(out: Path) -> None:
    file = file_of(out, "vanilla", "metrics.json")
    file.write_text('{"n": 4, "score": "high"}')
    reseal(file.parent)
    edit_row(out, score=0.9)
    names = {problem.file.parent.parent.name for problem in recheck(out).problems}
    assert len(names) == 2
