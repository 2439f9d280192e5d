"""A sweep follows the parameter that varies."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from tests.support.frames import identified
from unibench.analysis.sweep import MODE, by_task, sweep, varying
from unibench.errors import UsageError


def frame(**values: list[object]) -> pd.DataFrame:
    """Cells of ``idpruner`` over the product of one list, with divprune beside it."""
    ((name, given),) = values.items()
    base = {
        "model": "m",
        "task": "t",
        "budget": "0.889",
        "budget_mode": "at_stage",
        "main": True,
        "n": 9,
        "low": 0.0,
        "high": 9.0,
        "drop_pct": 1.0,
        "kept_mean": 16.0,
        "equiv_tokens": 16.0,
    }
    lines = [
        {
            **base,
            "method": "divprune",
            "variant": "",
            "params": "{}",
            "ability": "all",
            "score_100": 5.0,
        }
    ]
    for number, value in enumerate(given):
        for ability in ("all", "reading"):
            params = json.dumps({"mmr_lambda": 0.5, "importance": "l2norm", name: value})
            lines.append(
                {
                    **base,
                    "method": "idpruner",
                    "variant": params,
                    "params": params,
                    "ability": ability,
                    "score_100": float(number),
                }
            )
    return identified(pd.DataFrame(lines))


def test_the_parameter_that_varies_is_found_and_followed() -> None:
    name, lines = sweep(frame(mmr_lambda=[0.1, 0.9]))
    assert name == "idpruner.mmr_lambda"
    assert lines[lines["curve"] == "all"][["value", "score_100"]].to_numpy().tolist() == [
        [0.1, 0.0],
        [0.9, 1.0],
    ]
    assert set(lines["curve"]) == {"all", "reading"} and set(lines["method"]) == {"idpruner"}


def test_values_may_be_words() -> None:
    _, lines = sweep(frame(importance=["saliency", "l2norm"]), "idpruner.importance")
    assert list(dict.fromkeys(lines["value"])) == ["saliency", "l2norm"]


def test_two_that_vary_must_be_told_apart() -> None:
    both = pd.concat([frame(mmr_lambda=[0.1, 0.5]), frame(importance=["random"])])
    assert varying(both) == ["idpruner.mmr_lambda", "idpruner.importance"]
    with pytest.raises(UsageError, match=r"name one of idpruner\.mmr_lambda, idpruner\.importance"):
        sweep(both)
    with pytest.raises(UsageError, match=r"Did you mean idpruner\.mmr_lambda"):
        sweep(both, "idpruner.mmr_lamda")


def test_nothing_varies_is_one_line() -> None:
    with pytest.raises(UsageError, match="no parameter"):
        sweep(frame(mmr_lambda=[0.5]))


def test_several_tasks_are_curves() -> None:
    other = frame(mmr_lambda=[0.1, 0.9]).assign(task="u", score_100=7.0)
    both = identified(pd.concat([frame(mmr_lambda=[0.1, 0.9]), other]))
    lines = by_task(sweep(both)[1])
    assert lines.groupby("curve")["score_100"].apply(list).to_dict() == {
        "t": [0.0, 1.0],
        "u": [7.0, 7.0],
    }


def test_what_a_budget_means_is_followed_over_the_methods_that_have_both() -> None:
    cells = frame(mmr_lambda=[0.5])
    other = cells[cells["method"] == "idpruner"].assign(
        budget_mode="layer_average", equiv_tokens=8.0
    )
    other = identified(other)
    name, lines = sweep(pd.concat([cells, other]))
    assert name == MODE
    assert lines[["curve", "value", "equiv_tokens"]].to_numpy().tolist() == [
        ["idpruner", "at_stage", 16.0],
        ["idpruner", "layer_average", 8.0],
    ]
