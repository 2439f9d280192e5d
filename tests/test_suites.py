"""``task=suite_x`` stands for the benchmarks of a paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from unibench import suites
from unibench.compose import CONFIGS, compose_cells, options
from unibench.errors import UsageError

FOLDER = CONFIGS / "suite"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def test_the_four_papers_are_there() -> None:
    assert NAMES == ("suite_idpruner", "suite_stp", "suite_trimtokenator", "suite_uniprunebench")


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_names_cards_and_metrics_of_its_harness(name: str) -> None:
    suite = suites.read(FOLDER, name)
    for task, metric in suite.tasks.items():
        assert task in options("task")
        card = OmegaConf.load(Path(CONFIGS) / "task" / f"{task}.yaml")
        assert metric in [entry.name for entry in card[suite.harness].metrics], task


def test_a_suite_is_a_grid_of_its_tasks_in_its_harness() -> None:
    judge = ["harness_options.judge.url=http://localhost:1/v1", "harness_options.judge.model=any"]
    cells = compose_cells(
        ["method=divprune", "ratio=0.889", "task=suite_uniprunebench", *judge], sweep=False
    )
    assert [cell.task.name for cell in cells] == list(
        suites.read(FOLDER, "suite_uniprunebench").tasks
    )
    assert {cell.harness for cell in cells} == {"vlmevalkit"}


def test_a_suite_may_stand_in_a_list_and_its_harness_may_be_overruled() -> None:
    cells = compose_cells(
        ["method=divprune", "task=mme,suite_trimtokenator,docvqa", "harness=auto"], sweep=True
    )
    names = [cell.task.name for cell in cells]
    assert names[0] == "mme" and names[-1] == "docvqa" and len(names) == len(set(names)) == 11
    assert {cell.harness for cell in cells} == {"auto"}


def test_suites_of_different_harnesses_need_a_choice() -> None:
    with pytest.raises(UsageError, match="lmms_eval and vlmevalkit; give one"):
        compose_cells(["task=suite_stp,suite_uniprunebench"], sweep=True)


def test_an_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="suite_uniprunebench"):
        compose_cells(["task=suite_uniprune"], sweep=False)
