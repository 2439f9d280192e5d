"""The methods inside the language model choose and generate alike under flash attention (an
emulated kernel) and sdpa.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import unibench
from tests.engine.test_flash import CALLS, flash
from tests.intra.test_generation import CASES, RATIO, STEPS, build
from tests.support.models import FAMILIES, QUICK, collate, generate, inputs_of, model_of

__all__ = ["flash"]  # a fixture


def _cases() -> list[Any]:
    families = list(FAMILIES)
    return [
        pytest.param(
            name,
            family,
            batch,
            marks=[] if family in QUICK and (i + j + k) % 4 == 0 else [pytest.mark.slow],
        )
        for i, name in enumerate(CASES)
        for j, family in enumerate(families)
        for k, batch in enumerate(("single", "ragged"))
    ]


@pytest.mark.parametrize(("name", "family", "batch"), _cases())
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
