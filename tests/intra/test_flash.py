"""The methods inside the language model choose and generate alike under flash attention (an
emulated kernel) and sdpa.
"""

from __future__ import annotations

from typing import Any

import torch

import unibench
from tests.engine.test_flash import CALLS, flash
from tests.intra.test_generation import CASES, RATIO, STEPS, build
from tests.support.models import collate, generate, inputs_of, model_of
from tests.support.turns import in_turn, one_or_several, plain

__all__ = ["flash"]  # a fixture


@in_turn("name, family, batch", CASES, one_or_several, on=1, often=plain)
def test_flash_attention_equals_sdpa(name: str, family: str, batch: str, flash: Any) -> None:
    inputs = (
        inputs_of(family, 0, 2)
        if batch == "single"
        else collate([inputs_of(family, 0, 1), inputs_of(family, 1, 2)])
    )
    method, mode = build(name)
    with unibench.prune(model_of(family), method, ratio=RATIO, budget_mode=mode) as session:
        tokens, scores, _ = generate(model_of(family), inputs, STEPS)
    records = session.take_records()
    with unibench.prune(flash, method, ratio=RATIO, budget_mode=mode) as session:
        again, again_scores, _ = generate(flash, inputs, STEPS)
    assert CALLS["all"]
    assert not CALLS["packed"]
    assert session.take_records() == records
    torch.testing.assert_close(again_scores, scores, atol=5e-4, rtol=5e-4)
    assert torch.equal(again, tokens)
