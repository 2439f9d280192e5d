"""``experiment=``: the grammar, and that each published table's cells are exactly those its
experiment composes.
"""

from __future__ import annotations

import csv
import itertools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from unibench import experiment, registry
from unibench.cli import main
from unibench.compose import CONFIGS, compose_cells, options
from unibench.config import RunConfig
from unibench.errors import UsageError
from unibench.identity import cell_of
from unibench.report.layout import layout_of

PUBLISHED = registry.ROOT.parent / "results" / "published"
TABLES = [name for name in options("experiment") if "_table" in name]
WEIGHTS = "model.selector=random:0"  # stands in for trained weights that nobody has here
JUDGE_URL = "harness_options.judge.url=http://127.0.0.1:1/v1"
HERE = ("model=tiny_qwen2_5_vl", "task=synthvqa")
ELSEWHERE = {"ficoco_v"}  # for towers of whole grids, which the model of HERE has not
# what a note of a published row says about parameters
NOTES = {
    "ablation1: intra-modal stage before cross-modal": {"order": "repmax_first"},
    "ablation2: cross-modal stage only": {"order": "align_only"},
    "ablation3: intra-modal stage only": {"order": "repmax_only"},
    "cross-modal metric=MI": {"align": "mi"},
    "cross-modal metric=L_2": {"align": "l2"},
    "cross-modal metric=cos": {"align": "cos"},
    "intra-modal metric=L_2": {"intra": "l2"},
    "intra-modal metric=cos": {"intra": "cos"},
}
VARIED = ("order", "align", "intra", "n1", "stage2", "mmr_lambda", "weight", "pre")
# methods whose released code leaves the tokens of LLaVA where they stood
KEPT_IN_PLACE = ("fastv", "dart", "vtw", "fitprune")
INSIDE = ("fastv", "random_intra")  # of UniPruneBench on InternVL
Place = tuple[str, str, tuple[tuple[str, Any], ...], str, str]


def judge_of(table: str) -> list[str]:
    """Words that give an experiment a judge; the file of a table may say which model judges."""
    said = experiment.read(CONFIGS / "experiment" / f"{table}.yaml").grids
    named = any("harness_options.judge.model" in grid for grid in said)
    return [JUDGE_URL] if named else [JUDGE_URL, "harness_options.judge.model=any"]


def missing_names(name: str) -> list[str]:
    """Models and tasks of an experiment that have no file."""
    grids = experiment.read(CONFIGS / "experiment" / f"{name}.yaml").grids
    used = {
        (group, value)
        for grid in grids
        for group in ("model", "task", "method")
        for value in grid.get(group, ())
    }
    return sorted(f"{group}={value}" for group, value in used if value not in options(group))


def defaults(method: str) -> dict[str, Any]:
    return {
        key: value for key, value in registry.methods()[method].parameters.items() if key in VARIED
    }


def place(model: str, method: str, given: dict[str, Any], budget: str, task: str) -> Place:
    parameters = {**defaults(method), **given}
    return model, method, tuple(sorted((key, parameters[key]) for key in parameters)), budget, task


def printed(table: str) -> set[Place]:
    """The cells of a published table; averages and efficiency follow from them."""
    with (PUBLISHED / f"{table}.csv").open(encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["benchmark"] not in ("avg", "efficiency") and "DUPLICATE" not in row["note"]
        ]
    asked = layout_of(table).tasks
    return {
        _printed({**row, "benchmark": asked.get(row["benchmark"], row["benchmark"])})
        for row in rows
    }


def _printed(row: dict[str, str]) -> Place:
    method, parameters = row["method"], dict(NOTES.get(row["note"], {}))
    for part in row["note"].split("; "):
        key, sign, value = part.partition("=")
        if sign and key in ("lambda", "N1"):
            own = {"idpruner": "mmr_lambda", "naive_hybrid": "weight", "trimtokenator": "n1"}[
                method
            ]
            parameters[own] = float(value.removesuffix("N"))
    if method == "divprune_star":
        method, parameters = "trimtokenator", {"stage2": "divprune"}
    if "+" in method:
        pre, intra = method.split("+")
        method, parameters = "two_stage", {"pre": pre, "intra": intra}
    stated = (
        f"keep{row['kept_tokens']}"
        if row["kept_tokens"]
        else row["pruning_ratio"] and f"{float(row['pruning_ratio']):.3f}"
    )
    budget = "" if method == "vanilla" else stated
    return place(
        row["model"].replace(".", "_").replace("-", "_"),
        method,
        parameters,
        budget,
        row["benchmark"],
    )


def composed(cells: Iterable[RunConfig], *, budgets: bool) -> set[Place]:
    """Seeds and ways to count the budget joined."""
    found = set()
    for cell in cells:
        method = cell.method["name"]
        given = {key: value for key, value in cell.method.items() if key in VARIED}
        stated = f"keep{cell.keep}" if cell.keep else f"{float(cell.ratio or 0):.3f}"
        budget = "" if method == "vanilla" or not budgets else stated
        found.add(place(cell.model.name, method, given, budget, cell.task.name))
    return found


# by default the smallest table is composed as a whole; the others in the full run
OFTEN = "stp_table1"
IN_TURN = [
    pytest.param(table, marks=[] if table == OFTEN else [pytest.mark.slow]) for table in TABLES
]


@pytest.mark.parametrize("table", IN_TURN)
def test_an_experiment_composes_exactly_the_cells_of_its_table(
    table: str, caplog: pytest.LogCaptureFixture
) -> None:
    if missing := missing_names(table):
        pytest.fail(f"not there: {', '.join(missing)}")
    if not (PUBLISHED / f"{table}.csv").is_file():
        pytest.fail("the published numbers are not there")
    with caplog.at_level(logging.WARNING, "unibench"):
        cells = compose_cells([f"experiment={table}", WEIGHTS, *judge_of(table)], sweep=False)
    assert not caplog.records
    assert composed(cells, budgets=not table.startswith("stp")) == printed(table)
    assert len({cell_of(cell).key for cell in cells}) == len(cells)


SELDOM = {*TABLES, "controls", "tiny_grid"} - {OFTEN}
EXPERIMENTS = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SELDOM else [])
    for name in options("experiment")
]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_for_the_model_and_the_task_that_run_here(name: str) -> None:
    cells = compose_cells([f"experiment={name}", *HERE], sweep=False)
    assert {(cell.model.name, cell.task.name, cell.pixels) for cell in cells} == {
        ("tiny_qwen2_5_vl", "synthvqa", "native")
    }
    wanted = {
        value
        for grid in experiment.read(CONFIGS / "experiment" / f"{name}.yaml").grids
        for value in grid["method"]
    }
    if name == "controls":  # which adds them beside each method
        wanted |= {"random_like", "random_pre"}
    assert {cell.method["name"] for cell in cells} == wanted - ELSEWHERE
    assert len({cell_of(cell).key for cell in cells}) == len(cells)


def lines_of(name: str, *given: str) -> set[frozenset[str]]:
    found = experiment.read(CONFIGS / "experiment" / f"{name}.yaml")
    return {frozenset(line) for line in found.lines({g.partition("=")[0]: g for g in given})}


@pytest.mark.parametrize("name", options("experiment"))
def test_a_part_of_an_experiment_keeps_all_that_the_file_says(name: str) -> None:
    whole = lines_of(name)
    values = sorted({entry for line in whole for entry in line})
    for entry in values:
        if entry.startswith(("model=", "task=", "harness=", "convention=", "positions=")):
            part = {line for line in whole if entry in line}
            # what the file says of other cells alone is given to those that leave it open
            others = {line for line in whole if entry.partition("=")[0] not in str(sorted(line))}
            assert lines_of(name, entry) == part | {line | {entry} for line in others}
        if entry.startswith("method="):
            assert lines_of(name, entry) == {line for line in whole if entry in line}
        if entry.startswith(("ratio=", "keep=", "retention=")):
            found = {line for line in lines_of(name, entry) if "method=vanilla" not in line}
            wanted = {line for line in whole if entry in line and "method=vanilla" not in line}
            stated = {
                line for line in whole if any(one.startswith(("ratio=", "keep=")) for one in line)
            }
            assert wanted <= found and found.isdisjoint(stated - wanted)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_positions_that_its_code_gave(name: str) -> None:
    """LLaVA's own code, and UniPruneBench's of InternVL, closes the kept tokens up; what cuts inside
    LLaVA's decoder by FastV's code, and everything on Qwen, does not. Two decode elsewhere than they
    read.
    """
    for line in lines_of(name):
        said = dict(entry.split("=", 1) for entry in line)
        method, model = said["method"], said["model"]
        placed = "original"
        if model.startswith("llava_1_5") and name.startswith("idpruner"):  # AngelSlim's code
            placed = "original" if method in KEPT_IN_PLACE else "original_then_compact"
        elif model.startswith("llava") and not name.startswith("idpruner"):
            placed = "original" if method in KEPT_IN_PLACE else "compact"
        elif model.startswith("internvl"):
            placed = "compact_then_original" if method in INSIDE else "compact"
        if method != "vanilla":
            assert said.get("positions", "original") == placed, said


@pytest.mark.parametrize("name", IN_TURN)
def test_a_part_of_a_table_has_its_keys(name: str, caplog: pytest.LogCaptureFixture) -> None:
    read = experiment.read(CONFIGS / "experiment" / f"{name}.yaml")
    model, task = (read.grids[0][key][0] for key in ("model", "task"))
    method = read.grids[-1]["method"][0]
    words = [f"experiment={name}", WEIGHTS, *judge_of(name), f"method={method}"]
    with caplog.at_level(logging.WARNING, "unibench"):
        part = compose_cells([*words, f"model={model}", f"task={task}"], sweep=False)
        whole = compose_cells(words, sweep=False)
    chosen = [cell for cell in whole if (cell.model.name, cell.task.name) == (model, task)]
    assert part == chosen != []
    assert "will not be filled" not in caplog.text


@pytest.mark.parametrize("name", TABLES)
def test_what_changes_the_protocol_of_a_table_is_told_from_what_does_not(name: str) -> None:
    read = experiment.read(CONFIGS / "experiment" / f"{name}.yaml")
    for line in (
        f"harness={other_harness(name)}",
        "pixels=other",
        "convention=other",
        "model=other",
        "ratio=0.1",
    ):
        said = read.replaced({line.partition("=")[0]: line})
        assert said.startswith(line), line
    assert not read.replaced({"out": "out=x", "task.limit": "task.limit=3"})


def other_harness(table: str) -> str:
    """The harness that an experiment does not ask."""
    grid = experiment.read(CONFIGS / "experiment" / f"{table}.yaml").grids[0]
    return {"lmms_eval": "vlmevalkit", "vlmevalkit": "lmms_eval"}[grid["harness"][0]]


@pytest.mark.parametrize("name", IN_TURN)
def test_an_experiment_asked_in_another_way_says_that_its_table_is_not_filled(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = other_harness(name)
    with caplog.at_level(logging.WARNING, "unibench"):
        words = ["method=divprune", "task=pope", f"harness={other}"]
        cells = compose_cells([f"experiment={name}", WEIGHTS, *judge_of(name), *words], sweep=False)
    assert {cell.harness for cell in cells} == {other}
    assert caplog.text.count("its table will not be filled") == 1
    assert f"harness={other}" in caplog.text


def test_a_benchmark_that_a_table_lacks_is_asked_under_its_protocol_where_the_harness_has_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "unibench"):
        words = ["experiment=idpruner_table1", "method=fastv", "ratio=9/10"]
        (cell,) = compose_cells([*words, "task=seedbench"], sweep=False)
    assert (cell.harness, cell.convention) == ("lmms_eval", "paper:idpruner")
    assert "task=seedbench in place of task=ai2d" in caplog.text


def test_the_pairs_of_table_5_are_compared_under_both_budgets() -> None:
    cells = compose_cells(["experiment=uniprunebench_table5", *HERE], sweep=False)
    pairs = {
        (cell.method["pre"], cell.method["intra"], cell.budget.mode)
        for cell in cells
        if cell.method["name"] == "two_stage"
    }
    wanted = itertools.product(
        ("random_pre", "divprune", "gprune"),
        ("random_intra", "fastv"),
        ("at_stage", "layer_average"),
    )
    assert pairs == set(wanted)
    assert all(
        registry.methods()[name].parameters["layer"] == 2 for name in ("fastv", "random_intra")
    )


# made for videos; the grid asks about pictures
VIDEO = {
    "aim", "dycoke", "evs", "fastvid", "flashvid", "framefusion", "holitom", "prunevid", "sttm", "vidcom2",
}  # fmt: skip


def test_the_tiny_grid_holds_every_method_for_pictures() -> None:
    cells = compose_cells(["experiment=tiny_grid", *HERE], sweep=False)
    wrappers = {
        "cen_prune",
        "debias",
        "random_like",
        "stop",
    }  # around methods that are there themselves
    assert {cell.method["name"] for cell in cells} == set(
        registry.methods()
    ) - wrappers - VIDEO - ELSEWHERE
    calibrated = compose_cells(["experiment=tiny_grid", "method=d2pruner"], sweep=False)
    priors = {str(cell.method["prior"]) for cell in calibrated}
    assert len(priors) == 3 and all(Path(prior).is_file() for prior in priors)
    assert {cell.seed for cell in cells if cell.method["name"] == "random_pre"} == {0, 1, 2}
    assert {cell.task.limit for cell in cells} == {None} or all(
        (cell.task.limit or 0) <= 400 for cell in cells
    )


def written(tmp_path: Path, text: str) -> str:
    (tmp_path / "own.yaml").write_text(text)
    return f"experiment={tmp_path / 'own.yaml'}"


OWN = """
title: mine
common: {model: qwen2_5_vl_7b, pixels: paper, task: [synthvqa], ratio: [0.5, 0.75]}
grids:
  - {method: vanilla, ratio: null}
  - {method: fastv, method.layer: [2, 3]}
"""


def test_a_list_is_an_axis_and_the_command_line_replaces_what_the_file_says(tmp_path: Path) -> None:
    name = written(tmp_path, OWN)
    cells = compose_cells([name], sweep=False)
    assert [(cell.method.get("layer"), cell.ratio) for cell in cells] == [
        (None, None),
        (2, 0.5),
        (3, 0.5),
        (2, 0.75),
        (3, 0.75),
    ]
    assert {cell.pixels for cell in cells} == {"paper"}
    over = compose_cells([name, "model=tiny_qwen2_5_vl", "keep=9"], sweep=False)
    assert [
        (cell.method.get("layer"), cell.ratio, cell.keep, cell.pixels) for cell in over[1:]
    ] == [
        (2, None, 9, "native"),
        (3, None, 9, "native"),
    ]
    assert [
        cell.method["name"] for cell in compose_cells([name, "method=divprune,dart"], sweep=False)
    ].count("dart") == 2


def test_cells_that_cannot_be_are_left_out_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = written(tmp_path, OWN.replace("[2, 3]", "[2, two]"))
    with caplog.at_level(logging.WARNING, "unibench"):
        cells = compose_cells([name], sweep=False)
    assert [cell.method.get("layer") for cell in cells] == [None, 2, 2]
    assert "left out of the experiment, 2 cells: " in caplog.text and "method.layer" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grids: 3", "needs grids: a list of mappings"),
        ("grids: [fastv]", "is not a mapping from key to value"),
        ("grids: []\ncomon: {}", "unknown key 'comon'. Did you mean common?"),
        ("grids: [}", "is not valid YAML"),
        ("grids: [{seed: 2024-13-45}]", "is not valid YAML"),
        ("grids: [{method: divprun}]", "unknown method 'divprun'. Did you mean divprune?"),
    ],
)
def test_a_file_of_another_form_is_a_usage_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(
        UsageError,
        match=message.replace("'", "."),
    ):
        compose_cells([written(tmp_path, text)], sweep=False)


@pytest.mark.parametrize("name", ["uniprunebench_table9", "./nothing.yaml"])
def test_an_unknown_experiment_is_a_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"experiment={name}"]) == 2
    assert "experiment" in capsys.readouterr().err


def test_a_cell_that_its_method_refuses_blocks_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    name = written(
        tmp_path, "grids: [{method: [fastv, divprune], ratio: 0.889, budget.mode: layer_average}]"
    )
    with caplog.at_level(logging.WARNING, "unibench"):
        assert main([name, "task.limit=2", f"out={tmp_path / 'out'}"]) == 0
    out = capsys.readouterr().out
    assert "budget layer_average" in out and "divprune" in out and "fastv" not in out
    assert "left out of the experiment, 1 cell: " in caplog.text
    assert "cannot be reached; the cuts at layer 2 of 5" in caplog.text
