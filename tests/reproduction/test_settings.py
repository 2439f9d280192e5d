"""Which settings of a table's experiment are the paper's own, and the experiment without them."""

from __future__ import annotations

import pytest

from unibench.compose import CONFIGS, compose_experiment, given_by, options
from unibench.experiment import Experiment, read
from unibench.report.published import FOLDER
from unibench.report.settings import settings_of
from unibench.reproduction import differences, factors, of_unibench, with_factor

TABLES = sorted(name for name in options("experiment") if "_table" in name)
PART = ["method=dart", "ratio=0.889", "model=tiny_qwen2_5_vl", "task=synthvqa"]


def of(name: str) -> Experiment:
    return read(CONFIGS / "experiment" / f"{name}.yaml")


def test_a_setting_is_said_once_with_its_default_and_the_methods_that_it_is_for() -> None:
    found = {(one.key, one.paper): one for one in differences(of("idpruner_table1"))}
    rounding = found["budget.rounding", ("python_round",)]
    assert rounding.unibench == "half_up" and rounding.methods == ()
    scope = found["budget.scope", ("item",)]
    assert scope.unibench == "sequence"
    assert scope.methods == ("visionzip", "hiprune", "vispruner")
    layer = found["method.layer", ("1",)]
    assert layer.unibench == "2" and layer.methods == ("fastv", "dart")
    assert found["convention", ("paper:idpruner",)].unibench == "harness"


@pytest.mark.parametrize("name", TABLES)
def test_without_the_papers_settings_no_difference_is_left(name: str) -> None:
    experiment = of(name)
    assert differences(of_unibench(experiment)) == []
    assert len(of_unibench(experiment).grids) == len(experiment.grids)


@pytest.mark.parametrize("name", [name for name in TABLES if (FOLDER / f"{name}.csv").is_file()])
def test_every_setting_of_a_table_has_a_source_and_a_certainty(name: str) -> None:
    known = {key for one in settings_of(name) for key in one.keys}
    assert {one.key for one in differences(of(name))} <= known
    assert all(one.source and one.certainty for one in settings_of(name))


def test_one_setting_at_a_time_leaves_that_one() -> None:
    experiment = of("uniprunebench_table3")
    for key in factors(experiment):
        left = differences(with_factor(experiment, key))
        assert {one.key for one in left} == {key}
    assert "method.norm" in factors(experiment) and "budget.rounding" in factors(experiment)


def test_a_layer_without_a_default_is_what_the_table_compares() -> None:
    lines = [set(grid) for grid in of_unibench(of("stp_table1")).grids]
    assert sum("method.layer" in keys for keys in lines) == 3  # of VTW, which has no default


def test_the_cells_of_a_part_differ_in_the_papers_settings_alone() -> None:
    experiment = of("uniprunebench_table7")
    (theirs,) = compose_experiment(experiment, PART)
    (ours,) = compose_experiment(of_unibench(experiment), PART)
    assert theirs.method["norm"] == "layer" and ours.method["norm"] == "final"
    assert theirs.budget.rounding == "python_int" and ours.budget.rounding == "half_up"
    assert (theirs.ratio, theirs.model, theirs.task) == (ours.ratio, ours.model, ours.task)


def test_settings_that_the_command_line_replaces_are_not_said() -> None:
    (given,) = given_by(PART)
    keys = {one.key for one in differences(of("uniprunebench_table7").under(given))}
    assert "convention" not in keys and "method.norm" in keys
