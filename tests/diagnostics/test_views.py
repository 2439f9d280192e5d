"""Diagnostics in rows, tables and the study of the horizon, on cells whose outcome is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.stats._cells import finished
from unibench import frame
from unibench.analysis.horizon import first_layers, horizon
from unibench.cli import main
from unibench.diagnostics import Diagnosis
from unibench.inference.row import Change, read_row
from unibench.pruning.record import packed
from unibench.report import Table, diagnostics

AT = "ratio=0.75"
LAYOUT = ((16, ((1, 4, 4, "", False),)),)


def kept(*tokens: int) -> dict[str, Any]:
    """A record's entries of a picture of 4 x 4 tokens, of which these stay."""
    mask = torch.zeros(16, dtype=torch.bool)
    mask[list(tokens)] = True
    return {"last": packed(mask), "layout": LAYOUT, "visual_tokens": 16, "kept": len(tokens)}


def store(out: Path) -> Path:
    """Four cells of forty samples: vanilla right on thirty, divprune on twenty-five of other ones."""
    vanilla = [float(number < 30) for number in range(40)]
    finished(out, vanilla, "method=vanilla", more={**kept(*range(16)), "new_tokens": 3})
    divprune = [float(5 < number < 31) for number in range(40)]
    more = {**kept(0, 1, 2, 3), "diagnosis": Diagnosis(coverage=0.5, edge=1.0, centre=0.0)}
    finished(out, divprune, "method=divprune", AT, more=more)
    finished(out, divprune, "method=divprune", "ratio=0.875", more=kept(0, 5))
    finished(out, divprune, "method=random_pre", AT, more=kept(0, 1, 8, 9))
    return out


def texts(table: Table) -> dict[tuple[str, ...], list[str]]:
    return {
        line.labels: [entry.text for entry in line.entries]
        for block in table.blocks
        for line in block.lines
    }


def test_a_row_says_what_became_of_vanillas_answers(tmp_path: Path) -> None:
    out = store(tmp_path)
    rows = {
        (row.method, row.budget): row
        for file in out.rglob("metrics.json")
        if (row := read_row(file.parent))
    }
    assert rows["vanilla", "0"].change is None
    change = rows["divprune", "0.75"].change
    assert change == Change(harm_pct=100 * 6 / 30, gain_pct=10.0, new_tokens=-1.0)
    assert rows["divprune", "0.75"].diagnosis == Diagnosis(coverage=0.5, edge=1.0, centre=0.0)
    assert rows["divprune", "0.875"].diagnosis == Diagnosis()


def test_the_table_has_what_choices_have_in_common(tmp_path: Path) -> None:
    first, *common = diagnostics(frame.over_seeds(frame.load(store(tmp_path)), intervals=False))
    line = dict(zip(first.columns, texts(first)["divprune", "0.75"], strict=True))
    assert (line["coverage"], line["edge"], line["centre"]) == ("0.500", "1.000", "0.000")
    assert (line["attention"], line["boxed"]) == ("–", "–")
    assert line["as random"] == f"{2 / 6:.3f}" and line["as next budget"] == f"{1 / 5:.3f}"
    assert (line["harm %"], line["gain %"], line["tokens more"]) == ("20.0", "10.0", "-1.00")
    (table,) = common
    assert texts(table) == {("divprune",): ["1.00", "0.33"], ("random_pre",): ["0.33", "1.00"]}


def test_the_views_are_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "view=diagnostics", f"out={store(tmp_path)}"]) == 0
    said = capsys.readouterr().out
    assert "choices of tokens" in said and "tokens in common" in said


def test_the_horizon_is_the_first_layer_from_which_random_choice_equals_everything(
    tmp_path: Path,
) -> None:
    whole = [float(number < 30) for number in range(40)]
    finished(tmp_path, whole, "method=vanilla")
    for layer, right in ((1, 29), (2, 10), (3, 30), (4, 29)):
        scores = [float(number < right) for number in range(40)]
        finished(tmp_path, scores, "method=random_intra", f"method.layer={layer}", AT)
    fastv = [float(number < 30) for number in range(40)]
    finished(tmp_path, fastv, "method=fastv", "method.layer=3", AT)
    lines = frame.over_seeds(frame.whole(frame.load(tmp_path)), intervals=False)
    table = horizon(lines)
    assert table[table["against"] == "vanilla"]["layer"].tolist() == [1, 2, 3, 4]
    (beside,) = table[table["against"] == "fastv"].to_dict("records")
    assert (beside["layer"], beside["difference"], beside["equal"]) == (3, 0.0, True)
    (found,) = first_layers(table).to_dict("records")
    assert (found["horizon"], found["from"], found["to"]) == (3, 1, 4)
    none = first_layers(table[table["layer"] <= 2])
    assert isinstance(none, pd.DataFrame) and math.isnan(none["horizon"].iloc[0])


@pytest.mark.slow
def test_the_horizon_is_found_by_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=tiny_qwen2_5_vl", "ratio=0.75", "task.limit=4", f"out={tmp_path}"]
    assert main(["analyze", "horizon", "method=fastv", *words]) == 0
    said = capsys.readouterr().out
    assert "tiny_qwen2_5_vl on synthvqa at 0.75: " in said and "horizon.svg" in said
    table = pd.read_csv(tmp_path / "analysis" / "horizon.csv")
    assert set(table["layer"]) == {1, 2, 3, 4} and set(table["against"]) == {"vanilla", "fastv"}
    assert main(["analyze", "horizon", "method=divprune", *words]) == 2
    assert "divprune has no parameter layer" in capsys.readouterr().err
