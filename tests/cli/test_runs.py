"""What is said of a finished run: whether it pruned, and whether another code's run is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unibench import parity, trace
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.frame import load as load_frame
from unibench.identity import Cell, cell_of
from unibench.inference.row import read_row
from unibench.inference.session import method_of, session_of
from unibench.models import LoadedModel, load
from unibench.parity import recorder
from unibench.pruning import Session
from unibench.pruning.record import unpacked
from unibench.registry import ROOT
from unibench.runner.embedded import load_task
from unibench.store import read_samples
from unibench.trace import Finding

SAMPLES = 3
WORDS = ["model=tiny_llava", "ratio=0.75", f"task.limit={SAMPLES}", "task=synthvqa"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cell, its unpruned one beside it."""
    out: Path = tmp_path_factory.mktemp("runs")
    assert main([*WORDS, "method=divprune", f"out={out}"]) == 0
    (found,) = [file.parent for file in out.rglob("metrics.json") if "divprune" in str(file)]
    return found


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(cell().config.model)


def cell(*words: str) -> Cell:
    (config,) = compose_cells([*WORDS, *(words or ("method=divprune",))], sweep=False)
    return cell_of(config)


# -- doctor run=


def said(of: Cell, model: LoadedModel) -> dict[str, Finding]:
    seen = trace.watched(of, model, load_task(of))
    return {one.what: one for one in trace.of_model(seen, of, method_of(of), {})}


@pytest.mark.parametrize(
    ("words", "stand"),
    [
        (("method=divprune",), "kept tokens original, generated ones original"),
        (("method=divprune", "positions=compact"), "kept tokens compact, generated ones compact"),
        (
            ("method=divprune", "positions=original_then_compact"),
            "kept tokens original, generated ones compact",
        ),
        (
            ("method=fastv", "positions=compact_then_original"),
            "kept tokens compact, generated ones original",
        ),
    ],
)
def test_a_pruned_prompt_is_what_the_cell_asks_for(
    loaded: LoadedModel, words: tuple[str, ...], stand: str
) -> None:
    found = said(cell(*words), loaded)
    assert [one.what for one in found.values() if one.state == "wrong"] == []
    assert found["positions"].said.startswith(stand)
    assert "64 from layer" in found["layers"].said


def test_every_layer_cache_and_step_is_shorter_than_the_prompt(loaded: LoadedModel) -> None:
    of = cell("method=fastv", "method.layer=2")
    seen = trace.watched(of, loaded, load_task(of))
    whole, kept = seen.record.visual_tokens, seen.record.kept
    assert seen.visual == [whole, whole] + [kept] * (len(seen.visual) - 2)
    entered = [count for _, count in sorted(seen.prefill.entered.items())]
    assert list(seen.prefill.cache) == entered
    steps = len(seen.forwards) - 1
    assert steps and [seen.forwards[-1].keys[layer] for layer in range(len(entered))] == [
        count + steps for count in entered
    ]
    assert seen.places[1] == "whole" and seen.places[2] == "original"


def in_place_of(change: Callable[[Cell], Cell]) -> Callable[..., Session]:
    """Makes the session of another cell than the one that is asked for."""
    return lambda of, model: session_of(change(of), model)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda of: cell("method=vanilla"), {"layers"}),
        (lambda of: replace(of, config=replace(of.config, positions="compact")), {"positions"}),
    ],
)
def test_a_run_that_does_something_else_is_found_out(
    loaded: LoadedModel, change: Any, wrong: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unibench.trace.live.session_of", in_place_of(change))
    found = said(cell(), loaded)
    assert {one.what for one in found.values() if one.state == "wrong"} == wrong


def test_the_command_finds_a_cell_by_its_key_asks_it_again_and_draws_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "layers.svg"
    store = folder.parents[3]
    assert main(["doctor", f"run={folder.name[:8]}", f"out={store}", f"to={picture}"]) == 0
    shown = capsys.readouterr().out
    assert "asked again" in shown and "prompt, kept tokens and answer as stored" in shown
    assert f"{SAMPLES} of {SAMPLES} met it" in shown
    assert picture.stat().st_size > 1000
    assert main(["doctor", f"run={folder}", "--files", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][0]["what"] == "pruned"


def test_a_stored_answer_that_the_model_does_not_give_is_wrong(
    folder: Path, loaded: LoadedModel
) -> None:
    of = cell()
    seen = trace.watched(of, loaded, load_task(of))
    other = replace(seen.record, answer="something else")
    found = {one.what: one for one in trace.of_model(seen, of, method_of(of), {other.id: other})}
    assert found["asked again"].state == "wrong" and "another answer" in found["asked again"].said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["doctor", "run=zzzz"], "unknown cell 'zzzz'"),
        (["import-run", "missing.jsonl", "cell=zzzz"], "missing.jsonl: there is no such file"),
        (["import-run", "missing.jsonl"], "import-run beside which cell?"),
        (["reproduce", "paper=idpruner"], "reproduce which table?"),
        (["reproduce", "paper=idpruner", "table=9"], "unknown table of idpruner '9'"),
        (["reproduce", "paper=idpruner", "table=1", "settings=own"], "unknown settings 'own'"),
        (["reproduce", "paper=idpruner", "table=all"], "reproduce runs one table"),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if words[0] == "reproduce" else [f"out={folder.parents[3]}"]
    assert main([*words, *out]) == 2
    error = capsys.readouterr().err
    assert line in error and len(error.splitlines()) == 1


# -- import-run


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """A cell as a run of another code."""
    found = []
    for sample in read_samples(folder)[0].values():
        kept = unpacked(sample["last"], sample["visual_tokens"]).nonzero()[:, 0].tolist()
        line = {"id": sample["id"], "visual_tokens": sample["visual_tokens"], "kept": kept}
        found.append({**line, "answer": sample["answer"]})
    return found


def written(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_run_recorded_elsewhere_becomes_a_cell_that_equals_ours(
    folder: Path, tmp_path: Path
) -> None:
    made = recorder.Recorder(str(tmp_path / "theirs.jsonl"))
    for line in lines_of(folder):
        made.sample(line["id"])
        mask = np.isin(np.arange(line["visual_tokens"]), line["kept"])
        made.kept(mask, line["visual_tokens"])
        made.answer(line["answer"])
    row = parity.imported(parity.read(tmp_path / "theirs.jsonl"), folder)
    found = parity.compared(folder, Path(row.folder))
    assert found.same_sets == found.same_answers == len(found.pairs) == SAMPLES
    ours = read_row(folder)
    assert (row.score, row.tflops) == (ours.score, pytest.approx(ours.tflops - ours.method_tflops))
    assert row.setting == ours.setting and row.key != ours.key and row.total_s is None
    stored = load_frame(folder.parents[3])
    variants = set(stored[stored["method"] == "divprune"]["variant"])
    assert variants >= {"", row.variant} and row.variant.startswith("imported=")
    # the same file again is the same cell
    assert parity.imported(parity.read(tmp_path / "theirs.jsonl"), folder).key == row.key


def test_other_sets_answers_and_numbers_are_told_apart(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(folder)
    lines[0]["kept"] = lines[0]["kept"][1:]
    lines[1]["answer"], lines[1]["layer"] = "nothing of the kind", 2
    file = written(tmp_path / "other.jsonl", lines)
    assert main(["import-run", str(file), f"cell={folder}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["same_sets"], found["same_answers"]) == (SAMPLES - 1, SAMPLES - 1)
    kept = len(lines[0]["kept"])
    assert found["samples"][0]["jaccard"] == pytest.approx(kept / (kept + 1))
    records = read_samples(Path(found["folder"]))[0]
    whole = lines[1]["visual_tokens"]
    assert records[lines[1]["id"]]["processed"][:3] == [whole, whole, len(lines[1]["kept"])]
    assert records[lines[1]["id"]]["score"] == 0  # scored here, whatever the file says
    assert main(["store", "verify", found["folder"]]) == 0


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"kept": [1, 1]}, "names a token twice"),
        ({"kept": [10_000]}, "kept has 10000, but the prompt has"),
        ({"kept": [True, False]}, "a mask is written as its indices"),
        ({"visual_tokens": 7, "kept": [1]}, "7 visual tokens in"),
        ({"id": "nobody"}, "unknown sample of"),
        ({"score": 2}, "score=2 is outside 0 to 1"),
        ({"keep": [1]}, "Did you mean kept?"),
        ({"layer": 99}, "layer=99, but the model has"),
    ],
)
def test_a_line_that_does_not_fit_is_refused_in_a_line(
    folder: Path, tmp_path: Path, change: dict[str, Any], line: str
) -> None:
    lines = lines_of(folder)
    lines[0] |= change
    with pytest.raises(UsageError, match=line.replace("?", r"\?")) as error:
        parity.imported(parity.read(written(tmp_path / "wrong.jsonl", lines)), folder)
    assert len(str(error.value).splitlines()) == 1


def test_a_run_of_fewer_samples_and_one_beside_vanilla_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    lines = lines_of(folder)
    with pytest.raises(UsageError, match=f"lacks 1 of the {SAMPLES} samples"):
        parity.imported(parity.read(written(tmp_path / "few.jsonl", lines[1:])), folder)
    (vanilla,) = [file.parent for file in folder.parents[1].glob("vanilla/*/metrics.json")]
    with pytest.raises(UsageError, match="is unpruned"):
        parity.imported(parity.read(written(tmp_path / "all.jsonl", lines)), vanilla)


def test_the_recorder_is_short_stands_alone_and_is_the_one_of_the_documentation() -> None:
    source = Path(recorder.__file__).read_text()
    assert len(source.splitlines()) <= 30 and "import unibench" not in source
    assert source in (ROOT.parent / "docs" / "reproduce.md").read_text()


# -- reproduce


def test_a_part_of_a_table_runs_under_both_settings_on_a_tiny_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = ["paper=idpruner", "table=2", "method=divprune", "keep=64"]
    store = folder.parents[3]
    words = [*part, "model=tiny_llava", "task=synthvqa", f"task.limit={SAMPLES}", f"out={store}"]
    assert main(["reproduce", *words, "--factors", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bases"][0]["verdict"] == "cannot be tested"
    settings = {one["key"]: one for one in found["settings"]}
    assert settings["positions"]["paper"] == ["original_then_compact"]
    (number,) = [one for one in found["numbers"] if one["line"] == "DivPrune 64"]
    assert set(number["ours"]) == {"paper", "unibench", "positions"}
    assert all(value is not None for value in number["ours"].values())
    assert number["ours"]["positions"] == number["ours"]["paper"]
    assert main(["reproduce", *words, "settings=both"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(text) for text in ("the unpruned model", "minus paper")]
    assert places == sorted(places)
