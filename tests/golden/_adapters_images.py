"""Adapters of the image methods of 2025 and 2026. Imported by ``_adapters.py``, which registers
them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.golden import _context
from tests.golden._adapters import Answer, Call, adapter, answer, one_stage
from tests.golden._adapters_intra import chosen, stored
from unibench.cost.accounting import processed


def close(found: Tensor, expected: Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected.to(found), rtol=rtol, atol=atol)


@adapter
def v2drop(call: Call) -> Answer:
    """States before and behind the layer in front of each cut, for the tokens still present."""
    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    start, total = params["visual_start"], params["n_visual"]
    stages = call.build(layers=params["layers"]).stages(params["depth"])
    defaults = call.build().stages(params["depth"])
    if params["depth"] in (28, 32):  # the published layers
        assert [stage.layer for stage in defaults] == [stage.layer for stage in stages]
    memory: dict[str, Tensor] = {}
    for number in range(len(params["layers"])):
        present = arrays[f"s{number}_present"]
        more: dict[str, Any] = dict(vision_rows=present, memory=memory)
        for stage, states in zip(stages[2 * number :][:2], ("previous", "current"), strict=True):
            hidden = torch.zeros(start + len(present) + 4, arrays["s0_current"].shape[1])
            hidden = hidden.to(call.dtype)
            hidden[start : start + len(present)] = arrays[f"s{number}_{states}"]
            assert stage.count is not None
            more["keep"] = min(stage.count(call.case.keep, total), len(present))
            ctx = stored(call, stage, hidden, start, start + len(present), **more)
            if states == "previous":
                assert stage.select(ctx) is None
        close(call.build().score(ctx), arrays[f"s{number}_scores"])
        kept = present if stage.select(ctx) is None else present[chosen(stage, ctx).keep]
        assert kept.tolist() == arrays[f"s{number}_kept"].tolist()
    counts = processed(stages, call.case.keep, total, params["depth"])
    assert list(counts) == arrays["tokens_per_layer"].tolist()
    return Answer(kept, None)


@adapter
def tiles(call: Call) -> Answer:
    """Crops one after the other, each with an equal budget of its own."""
    method, number = call.build(), call.case.params.get("tiles", 1)
    ctx = _context.context(call.case, call.dtype, call.note)
    size, found = len(ctx.visual) // number, []
    for start in range(0, number * size, size):
        rows = slice(start, start + size)
        narrow = _context.narrowed(ctx, start, start + size, ctx.keep // number)
        vision = _context.StubVision(
            {
                name: array[rows] if len(array) == len(ctx.visual) else array
                for name, array in _context.tensors(call.case, call.dtype).items()
            }
        )
        found.append(answer(one_stage(method), replace(narrow, vision=vision)).kept + start)
    return Answer(torch.cat(found), None)
