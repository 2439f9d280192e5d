"""Visual tokens of a picture before pruning, by size, model and convention."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "docs" / "harness_tokens.md"
# by hand, from the classes' limits and roundings: (model, harness, convention), width x height
KNOWN = {
    # 1,280 tokens at least: 640 x 480 grows to 42 x 31; as published 23 x 17
    ("qwen2_5_vl_7b", "vlmevalkit", "harness", "640 x 480"): "1,302",
    ("qwen2_5_vl_7b", "both", "model", "640 x 480"): "391",
    # rounded to 308 x 196 first and then to 256 tokens at least: 21 x 13; at once 20 x 14
    ("qwen2_5_vl_7b", "lmms_eval", "harness", "300 x 200"): "273",
    ("qwen2_5_vl_7b", "vlmevalkit", "paper:uniprunebench_text", "300 x 200"): "280",
    # 2,048 tokens at most, 768 for Qwen2-VL
    ("qwen2_5_vl_7b", "lmms_eval", "harness", "1654 x 2339"): "1,961",
    ("qwen2_vl_7b", "lmms_eval", "harness", "1654 x 2339"): "736",
    # 256 a tile: 6 and the whole, 12 or 24 by data set
    ("internvl3_8b", "vlmevalkit", "harness", "640 x 480"): "1,792",
    ("internvl3_8b", "vlmevalkit, MMMU", "harness", "640 x 480"): "3,328",
    ("internvl3_8b", "vlmevalkit, OCRBench", "harness", "1654 x 2339"): "6,400",
}


@pytest.mark.parametrize("place", KNOWN)
def test_the_table_has_what_the_limits_of_the_classes_give(place: tuple[str, ...]) -> None:
    lines = [line.strip("|").split("|") for line in TABLE.read_text().splitlines() if "|" in line]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    found = {
        (*row[:3], size): cell for row in rows for size, cell in zip(head[3:], row[3:], strict=True)
    }
    assert found[place] == KNOWN[place]


@pytest.mark.slow
def test_the_table_is_what_the_harnesses_own_classes_prepare() -> None:
    """In a process of its own: a harness changes the one that imports it."""
    command = [sys.executable, "-m", "tools.harness_tokens"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert made == TABLE.read_text()


@pytest.mark.slow
def test_a_class_of_internvl_that_loads_its_checkpoint_itself_is_told_of_one_tile() -> None:
    from inspect import signature

    from unibench.benchmark import convention_of
    from unibench.compose import compose_cells
    from unibench.harness.child.lmms_models import _options, class_of

    words = ["task=pope", "harness=lmms_eval", "harness_options.wrapper=native"]
    (config,) = compose_cells([*words, "model=internvl3_1b", "pixels=one_tile"], sweep=False)
    kind = class_of("internvl_hf")
    given = _options(kind, convention_of(config, "lmms_eval"), config)
    assert given["max_patches"] == 1
    assert "max_patches" in signature(kind.__init__).parameters
