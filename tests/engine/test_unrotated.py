"""Queries and keys before their rotation, against those that the layer itself computes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.support.methods import Look
from tests.support.models import families, inputs_of, model_of, text_of
from unibench import Needs, StageContext
from unibench.ops.work import Work, counted
from unibench.pruning.attention import QueryKey

LAYER = 2


@families
def test_rotated_they_are_what_the_layer_attends_with(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(family)
    rotated: list[tuple[Tensor, Tensor]] = []
    source = sys.modules[type(text_of(model)).__module__]
    for name in ("apply_rotary_pos_emb", "apply_multimodal_rotary_pos_emb"):
        if hasattr(source, name):
            monkeypatch.setattr(source, name, _noting(getattr(source, name), rotated))
    found: list[tuple[QueryKey, QueryKey]] = []

    def see(ctx: StageContext) -> None:
        rotated.clear()  # what follows is of the layer about to run
        assert ctx.query_key is not None
        found.append((ctx.unrotated(), ctx.query_key(LAYER)))

    with unibench.prune(model, Look(see, LAYER, Needs(entering=True))), torch.no_grad():
        model(**copy.deepcopy(inputs_of(family, 0, 1)))
    ((before, after),) = found
    query, key = rotated[0]
    torch.testing.assert_close(before.query, query[0].float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(before.key, key[0].float(), rtol=1e-4, atol=1e-5)
    assert before.scaling == after.scaling
    # a rotation changes no length
    lengths = [qk.key.float().norm(dim=-1) for qk in (before, after)]
    torch.testing.assert_close(*lengths, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(before.key, after.key.float(), atol=1e-2)


@families
def test_the_projections_are_counted_once(family: str) -> None:
    works: list[tuple[Work, QueryKey, int]] = []  # with the width of the decoder

    def see(ctx: StageContext) -> None:
        with counted() as work:
            found = ctx.unrotated()
        works.append((work, found, ctx.hidden.shape[-1]))

    with unibench.prune(model_of(family), Look(see, LAYER, Needs(entering=True))), torch.no_grad():
        model_of(family)(**copy.deepcopy(inputs_of(family, 0, 1)))
    ((work, found, width),) = works
    assert work.macs == width * (found.query.numel() + found.key.numel())


def _noting(original: Callable[..., Any], seen: list[tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    def rotate(query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append((query, key))
        return original(query, key, *args, **kwargs)

    return rotate
