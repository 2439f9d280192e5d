"""UniPruneBench's Table 5 on a tiny model of its depth: pairs against single stages at 0.889, under
both ways to count.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration, Qwen2Config

import unibench
from tests.support.models import IMAGE, TEXT, inputs_of
from unibench.api import build_method
from unibench.cost.accounting import equivalent_tokens

DEPTH, RATIO = 28, 0.889
PRE, INTRA = ("random_pre", "divprune", "gprune"), ("random_intra", "fastv")
PAIRS = [("two_stage", {"pre": pre, "intra": intra}) for pre in PRE for intra in INTRA]
DESIGNS: list[tuple[str, dict[str, Any]]] = [*PAIRS, *((name, {}) for name in (*PRE, *INTRA))]


@cache
def model() -> Any:
    vision = dict(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=[112, 112],
        patch_size=[14, 14],
    )
    text = Qwen2Config(**{**TEXT, "num_hidden_layers": DEPTH})
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    return InternVLForConditionalGeneration._from_config(config, attn_implementation="sdpa").eval()


def run(
    name: str, parameters: dict[str, Any], mode: str, seed: int = 0
) -> tuple[tuple[int, ...], list[list[int]]]:
    """Tokens processed per layer, and the positions that each cut kept."""
    with (
        unibench.prune(
            model(), build_method(name, **parameters), ratio=RATIO, budget_mode=mode, seed=seed
        ) as session,
        torch.no_grad(),
    ):
        model()(**copy.deepcopy(inputs_of("internvl", 2, 3)))
    (record,) = session.take_records()
    assert session.prompt is not None
    kept = [
        choices[0].origin.tolist() for choices in session.prompt.choices if choices[0] is not None
    ]
    assert record.visual_tokens == 144
    return record.processed, kept


@pytest.mark.parametrize(("name", "parameters"), DESIGNS)
def test_all_designs_leave_the_same_number_and_process_different_ones(
    name: str, parameters: dict[str, Any]
) -> None:
    processed, kept = run(name, parameters, "at_stage")
    assert processed[-1] == 16
    if name == "two_stage":
        assert processed == (48,) * 2 + (16,) * 26  # 0.667, and 0.667 of the rest
        assert set(kept[1]) <= set(kept[0])
    elif name in INTRA:
        assert processed == (144,) * 2 + (16,) * 26
    else:
        assert processed == (16,) * 28


@pytest.mark.parametrize(("name", "parameters"), DESIGNS)
def test_all_designs_process_the_same_where_that_is_the_budget(
    name: str, parameters: dict[str, Any]
) -> None:
    processed, _ = run(name, parameters, "layer_average")
    assert equivalent_tokens(processed) == pytest.approx(16, abs=0.5)


def test_a_pair_chooses_as_its_first_method_alone_and_draws_by_the_seed() -> None:
    _, (before, _) = run("two_stage", {"pre": "divprune", "intra": "fastv"}, "at_stage")
    with unibench.prune(model(), "divprune", keep=48) as session, torch.no_grad():
        model()(**copy.deepcopy(inputs_of("internvl", 2, 3)))
    assert session.prompt is not None
    (choice,) = session.prompt.choices[0]
    assert choice is not None
    assert before == choice.origin.tolist()
    drawn = [
        run("two_stage", {"pre": "random_pre", "intra": "random_intra"}, "at_stage", seed)[1]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
