"""Closed formulas against what torch counts while a model runs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

import unibench
from tests.methods._contexts import BESIDES, METHODS, OPTIONS, prompt_for
from tests.support.models import FAMILIES, inputs_of, model_of
from unibench.api import family_of
from unibench.cost.counter import flop_counter, flops_of
from unibench.cost.flops import DecoderShape, decoder_shape, published_macs, tflops
from unibench.ops import cosine_pairs, max_min, quality_determinantal
from unibench.ops import counted as counted_work

# merges in the vision tower are outside of the decoder's layers
IN_THE_TOWER = {"ficoco_v", "mustdrop", "mustdrop_vit", "pixelprune", "tome"}


def counted(family: str, method: str, ratio: float) -> tuple[float, float, float]:
    """FLOPs of products inside the decoder layers as torch counts them; of the closed formula; of
    the selection.
    """
    usual, inputs = prompt_for(method)
    if family != usual:
        inputs = inputs_of(family, 1)
    model = model_of(family)
    with (
        unibench.prune(model, method, ratio=ratio, **BESIDES, **OPTIONS.get(method, {})) as session,
        torch.no_grad(),
    ):
        with flop_counter() as counter:
            model(**inputs)
        (record,) = session.take_records()
    text_model = family_of(model).text_model
    executed = sum(flops_of(counter, model, layer) for layer in text_model.layers)
    shape = decoder_shape(text_model.config, 4)
    tokens = [record.text_tokens + visual for visual in record.processed]
    return executed, 1e12 * shape.prefill_tflops(tokens), 1e12 * tflops(record.product_macs)


SEVERAL = ("vanilla", "divprune", "fastv", "pyramiddrop", "vtw")
ALL = [(prompt_for(method)[0], method) for method in METHODS]
# by default every method on one family, and every family with one method
TURNS = [(family, SEVERAL[turn % len(SEVERAL)]) for turn, family in enumerate(FAMILIES)]
CASES = [
    pytest.param(*case, marks=[] if case in (*TURNS, *ALL) else [pytest.mark.slow])
    for case in dict.fromkeys([*itertools.product(FAMILIES, SEVERAL), *ALL])
]


@pytest.mark.parametrize(("family", "method"), CASES)
def test_the_closed_formula_and_the_selection_make_up_what_is_executed(
    family: str, method: str
) -> None:
    executed, model, selection = counted(family, method, 0.667)
    if method in IN_THE_TOWER:
        assert model <= executed <= model + selection
    else:
        assert executed == pytest.approx(model + selection, rel=1e-12)


def test_the_papers_formula_differs_from_the_exact_one_by_the_gate_and_the_groups() -> None:
    plain = DecoderShape(hidden=4096, width=4096, kv_width=4096, intermediate=11008, kv_bytes=2)
    assert (
        plain.macs(621)
        == published_macs(621, 4096, 11008, 3)
        == published_macs(621, 4096, 11008) + 621 * 4096 * 11008
    )
    grouped = DecoderShape(hidden=4096, width=4096, kv_width=1024, intermediate=11008, kv_bytes=2)
    assert plain.macs(621) - grouped.macs(621) == 2 * 621 * 4096 * 3072


def test_layers_count_by_what_they_look_back_with() -> None:
    whole = DecoderShape(hidden=64, width=64, kv_width=32, intermediate=128, kv_bytes=2)
    mixed = replace(whole, windows={0: 16, 1: 0}, state_macs=1000, kv_shared=1)
    square = 2 * 100 * 64  # of a key
    assert whole.layer_macs(0, 100) - mixed.layer_macs(0, 100) == square * (100 - 16)
    assert mixed.layer_macs(1, 100) == 100 * (1000 + 3 * 64 * 128)
    assert mixed.layer_macs(2, 100) == whole.macs(100)
    # a window of 16 holds 15, a state nothing that grows, the last layer reads another's
    assert mixed.cache_mib([100] * 4) == (15 + 0 + 100) * 2 * 32 * 2 / 2**20


def test_experts_count_as_far_as_a_token_goes_through_them() -> None:
    from transformers import Qwen3_5MoeTextConfig

    config = Qwen3_5MoeTextConfig()
    shape = decoder_shape(config, 2)
    assert shape.intermediate == 8 * 512 + 512
    assert sum(size == 0 for size in shape.windows.values()) == 30  # of 40 layers
    keys, values = 16 * 128, 32 * 128
    assert shape.state_macs == (
        2048 * (2 * keys + 3 * values + 2 * 32) + 4 * (2 * keys + values) + 3 * 128 * values
    )


def test_selection_work_grows_as_its_formula_says() -> None:
    for count in (8, 32):
        x = torch.randn(count, 16)
        with counted_work() as work:
            max_min(cosine_pairs(x, distance=True), count // 2)
        assert work.macs == count**2 * 16
        with counted_work() as outer, counted_work() as inner:
            quality_determinantal(cosine_pairs(x), torch.rand(count), 4)
        assert inner.macs == outer.macs == count**2 * 16 + (0 + 1 + 2) * count
