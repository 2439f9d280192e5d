"""The flash-attention path on a CPU: the kernel is emulated, everything that transformers does
around it is real.

What differs from sdpa: masks are 2D or None, position ids with gaps would be taken for packed
sequences, and the Qwen towers make one call with sequence bounds.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_flash_attention_utils import _is_packed_sequence
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import unibench
from tests.support.methods import Fixed, MergeVit, Pyramid, every
from tests.support.models import collate, generate, inputs_of, model_of
from tests.support.turns import in_turn, one_or_several
from unibench import Chain

CALLS = {"all": 0, "packed": 0}


def emulated(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What the kernel computes, from the arguments it is given."""
    CALLS["all"] += 1
    mask = attention_mask
    assert mask is None or mask.ndim == 2
    causal = module.is_causal if kwargs.get("is_causal") is None else kwargs["is_causal"]
    if causal and _is_packed_sequence(kwargs.get("position_ids"), query.shape[0]):
        CALLS["packed"] += 1
    queries, keys = query.shape[2], key.shape[2]
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if causal:
        seen = seen.tril(keys - queries)
    elif (bounds := kwargs.get("cu_seq_lens_q")) is not None:
        owner = torch.bucketize(torch.arange(queries), bounds[1:].long(), right=True)
        seen = owner[:, None] == owner[None, :]
    seen = seen[None, None].expand(query.shape[0], 1, queries, keys)
    if mask is not None:
        assert mask.shape[-1] == keys
        own = torch.arange(queries)[:, None] + keys - queries == torch.arange(keys)
        seen = seen & mask[:, None, None, :].bool() | own
    groups = query.shape[1] // key.shape[1]
    out = torch.nn.functional.scaled_dot_product_attention(
        query,
        key.repeat_interleave(groups, 1),
        value.repeat_interleave(groups, 1),
        attn_mask=seen,
        scale=kwargs.get("scaling"),
    )
    return out.transpose(1, 2).contiguous(), None


@pytest.fixture
def flash(family: str) -> Iterator[Any]:
    ALL_ATTENTION_FUNCTIONS["flash_attention_2"] = emulated
    CALLS.update(all=0, packed=0)
    model = copy.deepcopy(model_of(family))
    for module in model.modules():
        if getattr(module, "config", None) is not None:
            module.config._attn_implementation = "flash_attention_2"
    yield model
    del ALL_ATTENTION_FUNCTIONS["flash_attention_2"]


METHODS = {
    "layer0": Fixed({0: every(3, 1)}),
    "pyramid": Pyramid((2, 4)),
    "merge+pyramid": Chain((MergeVit(), Pyramid((3,)))),
}


@in_turn("name, family, batch", METHODS, one_or_several, on=2)
def test_flash_attention_equals_sdpa(family: str, flash: Any, name: str, batch: str) -> None:
    inputs = (
        inputs_of(family, 0, 2)
        if batch == "single"
        else collate([inputs_of(family, seed) for seed in range(3)])
    )
    with unibench.prune(model_of(family), METHODS[name]):
        tokens, scores, _ = generate(model_of(family), inputs)
    with unibench.prune(flash, METHODS[name]):
        again, again_scores, _ = generate(flash, inputs)
    assert CALLS["all"] and not CALLS["packed"]
    torch.testing.assert_close(again_scores, scores, atol=5e-4, rtol=5e-4)
    assert torch.equal(again, tokens)


def test_gaps_in_position_ids_would_read_as_packed() -> None:
    assert _is_packed_sequence(torch.tensor([[0, 1, 5, 6, 7]]), 1)
