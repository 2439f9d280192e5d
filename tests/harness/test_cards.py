"""Task cards say what the installed harnesses say. Nothing is imported from them: their sources are
read.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from tests.harness import standins
from tests.harness.standins._vlmevalkit_videos import VIDEOS
from unibench import catalogue
from unibench.compose import CONFIGS, compose_cells
from unibench.config import HarnessTask, TaskConfig
from unibench.errors import UsageError
from unibench.schema import build, without_literals

BENCHMARKS = (
    "mme", "mmbench_en", "mmbench_cn", "mathvista", "mathvision", "seedbench2_plus", "seedbench", "ocrbench", "mia_bench",
    "scienceqa", "pope", "hallusionbench", "ai2d", "chartqa", "docvqa", "mmstar", "textvqa", "gqa",
    "okvqa", "mmmu", "coco_cap", "nocaps", "flickr30k", "videomme", "vinoground",
    "realworldqa", "infovqa", "a_okvqa", "vizwiz", "vqav2", "pope_adversarial", "mathvision_mini",
)  # fmt: skip
FREE = {
    "gqa": {"image"},
    "mathvista_testmini_format": {"caption", "ocr"},
    "mmmu_pro_standard": {"image"},  # of the part whose question stands in the picture
    "mmmu_pro_vision": {"question"},  # where there is one, the picture is looked for as image_1
}  # filled in by the task itself; read only if there


@cache
def card(name: str) -> TaskConfig:
    merged = OmegaConf.merge(
        OmegaConf.structured(without_literals(TaskConfig)),
        OmegaConf.load(CONFIGS / "task" / f"{name}.yaml"),
    )
    found = build(TaskConfig, OmegaConf.to_container(merged))
    assert isinstance(found, TaskConfig)
    return found


def every() -> list[str]:
    """Every card of a benchmark that a harness asks."""
    files = sorted((CONFIGS / "task").glob("*.yaml"))
    return [file.stem for file in files if card(file.stem).kind == "harness"]


def written(harness: str) -> list[str]:
    """The cards whose benchmark has a stand-in."""
    there = {*standins.NAMES[harness], *(VIDEOS if harness == "vlmevalkit" else ())}
    found = ((name, getattr(card(name), harness)) for name in every())
    return [
        name
        for name, side in found
        if side is not None and {side.name, catalogue.video_folder(side.name)} & there
    ]


def sides(harness: str, names: Sequence[str] = BENCHMARKS) -> list[Any]:
    found = ((name, getattr(card(name), harness)) for name in names)
    return [pytest.param(side, id=name) for name, side in found if side is not None]


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} is not installed")
    return Path(spec.origin).parent


class Loader(yaml.SafeLoader):
    """Reads lmms-eval's own tag as the name of a function."""


Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


@cache
def definition(task: str) -> dict[str, Any]:
    """An lmms-eval task with what it includes, and where it lies."""
    package("lmms_eval")
    file = catalogue._task_files()[task]
    found = yaml.load(file.read_text(), Loader)
    if "include" in found:
        found = yaml.load((file.parent / found["include"]).read_text(), Loader) | found
    return {**found, "file": file}


def functions_of(file: Path) -> dict[str, ast.FunctionDef]:
    return {
        node.name: node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }


def columns_read(task: str) -> set[str]:
    """What the task's functions, and those that they call beside them, take from a document."""
    found = definition(task)
    entries = [
        str(found.get(key, "")) for key in ("doc_to_visual", "doc_to_text", "process_results")
    ]
    named = [entry for entry in entries if re.fullmatch(r"\w+\.\w+", entry)]
    columns: set[str] = set()
    for module, _, name in (entry.partition(".") for entry in named):
        functions = functions_of(found["file"].parent / f"{module}.py")
        waiting, seen = [name], set[str]()
        while waiting:
            current = waiting.pop()
            if current in seen or current not in functions:
                continue
            seen.add(current)
            for node in ast.walk(functions[current]):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    waiting.append(node.func.id)
                if (
                    isinstance(node, ast.Subscript)
                    and isinstance(node.value, ast.Name)
                    and node.value.id in ("doc", "d")
                ):
                    columns |= (
                        {node.slice.value}
                        if isinstance(node.slice, ast.Constant) and isinstance(node.ctx, ast.Load)
                        else set()
                    )
    return columns - FREE.get(task, set())


@cache
def vlmevalkit_source() -> str:
    return "\n".join(file.read_text() for file in (package("vlmeval") / "dataset").rglob("*.py"))


@pytest.mark.parametrize("name", every())
def test_a_card_is_complete(name: str) -> None:
    found = card(name)
    present = [side for side in (found.vlmevalkit, found.lmms_eval) if side is not None]
    assert found.name == name and found.kind == "harness" and found.ability and present
    assert (found.differs is not None) == (len(present) == 2)
    assert getattr(found, found.prefer) is not None
    for side in present:
        assert side.metrics and side.columns and all(metric.path for metric in side.metrics)
        assert len({metric.name for metric in side.metrics}) == len(side.metrics)


@pytest.mark.parametrize("side", sides("lmms_eval", every()))
def test_a_card_names_an_official_task_and_its_metrics(side: HarnessTask) -> None:
    reported = {entry["metric"] for entry in definition(side.name)["metric_list"]}
    paths = [path for metric in side.metrics for path in metric.path]
    assert all(f"{path}.".startswith(tuple(f"{one}." for one in reported)) for path in paths)


@pytest.mark.parametrize("side", sides("lmms_eval", every()))
def test_a_card_lists_the_columns_that_the_task_reads(side: HarnessTask) -> None:
    assert columns_read(side.name) <= set(side.columns)


@pytest.mark.parametrize("side", sides("lmms_eval", written("lmms_eval")))
def test_a_stand_in_has_the_split_and_the_columns_of_the_card(side: HarnessTask) -> None:
    standin = standins.LMMS_EVAL[side.name]
    assert standin.split == definition(side.name)["test_split"].strip()
    assert set(side.columns) <= set(standin.rows(4)[0])


@pytest.mark.parametrize("side", sides("vlmevalkit", every()))
def test_a_card_names_an_official_data_set_and_its_columns(side: HarnessTask) -> None:
    name = catalogue.video_folder(side.name) or side.name
    assert name in catalogue.names("vlmevalkit")
    letters = set("ABCD")  # read in a loop over the alphabet
    source = vlmevalkit_source()
    unread = {c for c in side.columns if f"'{c}'" not in source and f'"{c}"' not in source}
    assert unread <= letters


@pytest.mark.parametrize("side", sides("lmms_eval", every()))
def test_a_card_s_task_has_a_split_and_a_repository(side: HarnessTask) -> None:
    found = definition(side.name)
    assert found["test_split"].strip()
    assert catalogue.dataset_path(side.name) == found["dataset_path"]


def test_what_papers_use_has_a_card() -> None:
    wanted = {
        *("mmvet", "mmbench_en_v11", "mmmu_pro", "blink", "muirbench", "mmvp", "cv_bench", "vstar"),
        *("hrbench4k", "hrbench8k", "mathverse", "textcaps", "mvbench", "longvideobench_val_v"),
        *("mlvu_dev", "mlvu_test", "egoschema_subset", "nextqa_mc", "perceptiontest_val_mc"),
        *("videomme", "videomme_w_subtitle", "refcoco", "refcoco_plus", "refcocog"),
        *("screenspot_v2", "coco_cap_chair", "ocrbench_v2", "mme_realworld"),
    }
    assert wanted <= set(every())


@pytest.mark.parametrize("task", ["mm-vet", "AMBER", "mvbench_action_count"])
def test_the_message_for_an_unknown_task_says_which_harness_has_it(task: str) -> None:
    hint = {"mm-vet": "task=vlmevalkit:MMVet, task=lmms_eval:mmvet", "AMBER": "vlmevalkit:AMBER"}
    with pytest.raises(UsageError) as caught:
        compose_cells([f"task={task}"], sweep=False)
    assert hint.get(task, f"lmms_eval:{task}") in str(caught.value)


@pytest.mark.parametrize("name", written("vlmevalkit"))
def test_a_table_has_the_columns_of_the_card(name: str, tmp_path: Path) -> None:
    side = card(name).vlmevalkit
    assert side is not None
    folder = catalogue.video_folder(side.name)
    rows = VIDEOS[folder](tmp_path, 1) if folder else standins.VLMEVALKIT[side.name](4)
    assert set(side.columns) - ({"index"} if folder else set()) <= set(rows[0])


@pytest.mark.parametrize("folder", VIDEOS)
def test_a_table_of_videos_has_the_columns_of_its_card(folder: str, tmp_path: Path) -> None:
    found = [side for name in every() if (side := card(name).vlmevalkit) is not None]
    columns = [set(side.columns) for side in found if catalogue.video_folder(side.name) == folder]
    written = {"index", *VIDEOS[folder](tmp_path, 1)[0]}
    assert all(names <= written for names in columns)
    assert columns or folder == "MLVU_OpenEnded"  # asked by its name in VLMEvalKit
