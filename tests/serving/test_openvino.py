"""What the comparison with OpenVINO GenAI computes on our side; OpenVINO itself is not installed."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import _openvino_child as child
from benchmarks import openvino
from unibench.budget import Budget
from unibench.ops import cosine, cosine_pairs, quality_determinantal

TOTAL, WIDTH = 40, 64


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(TOTAL, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def text() -> torch.Tensor:
    return torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(1))


def chosen(features: torch.Tensor, text: torch.Tensor, weight: float, **setting: Any) -> list[int]:
    return child.chosen(features.numpy(), text.numpy(), setting, child.kernel_in_float32(weight))


def test_as_many_tokens_stay_as_under_our_budget() -> None:
    for total in (1, 2, 49, 144, 576, 1025):
        for percent in openvino.PERCENTS:
            ours = Budget.parse(ratio=f"0.{percent}").keep(total)
            # ours leaves at least one, theirs refuses
            assert ours == max(1, child.count(total, percent))


def test_half_a_token_is_lost_where_binary_numbers_fall_below_it() -> None:
    assert Budget.parse(ratio="0.67").keep(50) == 17
    assert child.count(50, 67) == 16


def test_one_pool_of_full_weight_keeps_what_our_method_keeps(
    features: torch.Tensor, text: torch.Tensor
) -> None:
    relevance = cosine(features, text).mean(1)
    ours = quality_determinantal(cosine_pairs(features), relevance, 13).sort().values
    assert chosen(features, text, 1.0, percent=67, split="0") == ours.tolist()


def test_each_half_of_a_picture_gives_half_of_the_tokens(
    features: torch.Tensor, text: torch.Tensor
) -> None:
    kept = chosen(features, text, 0.5, percent=67, split=None)
    assert kept == sorted(set(kept))
    assert [sum(pick < TOTAL // 2 for pick in kept), len(kept)] == [6, 13]


def test_a_recorded_prompt_tells_which_tokens_are_left() -> None:
    # two tokens of text, tokens 1, 4 and 8 of a picture of 3 x 3, and text
    rows, columns = [0, 1, 2, 3, 4, 5], [0, 1, 3, 3, 4, 5]
    reply = {"prompt": 6, "rows": rows, "columns": columns}
    assert openvino.kept_of(reply, start=2, total=9, unpruned=12) == [1, 4, 8]


def test_the_other_environment_needs_nothing_of_ours() -> None:
    tree = ast.parse(Path(child.__file__).read_text(encoding="utf-8"))
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {str(name).partition(".")[0] for name in imported} <= sys.stdlib_module_names
