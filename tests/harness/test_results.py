"""From a harness's result to the numbers of a card."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from unibench.config import HarnessTask, MetricConfig
from unibench.errors import UsageError
from unibench.harness.child.results import flat, metrics_of, sample_scores
from unibench.harness.job import plain
from unibench.inference.verdict import Metric


def test_a_table_of_one_row_gives_its_columns() -> None:
    assert flat(pd.DataFrame({"split": ["none"], "Overall": [0.5]})) == {
        "split": "none",
        "Overall": 0.5,
    }


def test_a_table_of_several_rows_is_named_by_its_first_column() -> None:
    table = pd.DataFrame({"split": ["Overall", "random"], "acc": [50.0, 60.0]})
    assert flat(table) == {"Overall.acc": 50.0, "random.acc": 60.0}


def test_nested_results_become_dotted_keys() -> None:
    assert flat({"a": {"b": [1]}, "c": 2}) == {"a.b": 1, "c": 2}


def test_a_score_adds_up_its_parts_and_is_out_of_the_best() -> None:
    card = HarnessTask("MME", [MetricConfig("sum", ["perception", "reasoning"], best=2800)])
    found = metrics_of(card, {"perception": 1400.0, "reasoning": 280.0}, {})
    assert found == {"sum": Metric(1680.0, pytest.approx(60.0), mean=False)}


def test_only_a_mean_over_samples_gets_an_interval() -> None:
    card = HarnessTask(
        "POPE", [MetricConfig("accuracy", ["acc"], best=100), MetricConfig("f1", ["f1"], best=100)]
    )
    scores = {"0": 1.0, "1": 0.0}
    assert metrics_of(card, {"acc": 50.0, "f1": 66.7}, scores)["accuracy"].mean
    assert metrics_of(card, {"acc": 40.0, "f1": 66.7}, scores)["accuracy"].mean is False


def test_a_number_that_the_harness_does_not_give_is_named() -> None:
    card = HarnessTask("POPE", [MetricConfig("accuracy", ["Overall.ac"])])
    with pytest.raises(
        UsageError, match=r"no number 'Overall.ac' for metric accuracy. Did you mean Overall.acc\?"
    ):
        metrics_of(card, {"Overall.acc": 1.0}, {})


def test_samples_are_scored_only_if_all_of_them_are() -> None:
    metric = MetricConfig("sum", [], sample=["a.score", "b"], sample_best=2.0)
    assert sample_scores(metric, {"0": {"a.score": 2}, "1": {"b": True}}) == {"0": 1.0, "1": 0.5}
    assert sample_scores(metric, {"0": {"a.score": 2}, "1": {"c": 1}}) == {}


def test_what_json_does_not_know_is_made_plain() -> None:
    assert plain({1: np.float64(0.5), "b": (np.bool_(True), math.nan), "c": object}) == {
        "1": 0.5,
        "b": [True, None],
        "c": str(object),
    }
