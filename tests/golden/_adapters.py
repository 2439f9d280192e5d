"""How the arrays of a case reach a method. Most cases need ``select`` alone; an adapter is one small function.

To add one, write a function that takes a :class:`Call`, decorate it with :func:`adapter`, and name it in
``map.yaml``. It returns what the method answered, or None if it made its own comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.golden import _context
from tests.golden._cases import Case
from unibench import Method, Stage
from unibench.api import build_method

DEPTH = 32  # decoder layers of the imagined model


@dataclass(frozen=True)
class Call:
    """A case, and how its method is to be called.

    Attributes:
        case: with its arrays.
        dtype: of the real arrays.
        method: name of the method.
        options: parameters of the method.
        tmp: a folder for files the method reads.
        note: collects what the method stamps into the row.
    """

    case: Case
    dtype: torch.dtype
    method: str
    options: dict[str, Any]
    tmp: Path
    note: _context.Notes

    def build(self, **more: Any) -> Method:
        return build_method(self.method, **{**self.options, **more})


@dataclass(frozen=True)
class Answer:
    """What a method kept.

    Attributes:
        kept: sorted indices.
        rows: ``[len(kept), D]`` what reaches the language model, in the same order.
    """

    kept: Tensor
    rows: Tensor | None


ADAPTERS: dict[str, Callable[[Call], Answer | None]] = {}


def adapter(run: Callable[[Call], Answer | None]) -> Callable[[Call], Answer | None]:
    """Register a function under its own name."""
    ADAPTERS[run.__name__] = run
    return run


def one_stage(method: Method) -> Stage:
    """The only cut of a method."""
    (stage,) = method.stages(DEPTH)
    return stage


def answer(stage: Stage, ctx: Any) -> Answer:
    """What a stage keeps of a context, in sequence order."""
    selection = stage.select(ctx)
    assert selection is not None
    kept, order = selection.keep.sort()
    return Answer(kept, ctx.visual_hidden[kept] if selection.values is None else selection.values[order])


@adapter
def select(call: Call) -> Answer:
    """Features and vision signals in, indices out; ``params.scope`` may ask for two pools."""
    stage = one_stage(call.build())
    ctx = _context.context(call.case, call.dtype, call.note, stage.layer)
    if call.case.params.get("scope") != "tile0+rest":
        return answer(stage, ctx)
    first, total = call.case.params["tile_tokens"], len(ctx.visual)
    ratio, whole = call.case.params["keep_ratio"], round if call.method == "divprune" else int  # as UniPruneBench rounds each
    pools = [(0, first), (first, total)]
    parts = [answer(stage, _context.narrowed(ctx, a, b, max(1, whole(ratio * (b - a))))) for a, b in pools]
    return Answer(torch.cat([part.kept + a for part, (a, _) in zip(parts, pools, strict=True)]), None)


@adapter
def inside(call: Call) -> Answer:
    """A method that reads nothing but the number of visual tokens in front of a decoder layer."""
    stage = one_stage(call.build())
    return answer(stage, _context.context(call.case, call.dtype, call.note, stage.layer))


@adapter
def last_row(call: Call) -> Answer:
    """``attention_row [H, T]``: the last token's row at the layer before the cut."""
    arrays = _context.tensors(call.case, call.dtype)
    row, start, stop = arrays["attention_row"], int(arrays["visual_start"]), int(arrays["visual_end"])
    stage = one_stage(call.build())
    ctx = _context.Attended(
        layer=stage.layer,
        keep=call.case.keep,
        total=stop - start,
        hidden=torch.zeros(row.shape[1], 1),
        visual=torch.arange(start, stop),
        origin=torch.arange(row.shape[1]),
        vision_rows=torch.arange(stop - start),
        note=call.note,
        rows=row[:, None, start:stop],
    )
    scores = call.build().score(ctx)
    torch.testing.assert_close(scores, arrays["scores"], rtol=1e-4, atol=1e-7)
    return answer(stage, ctx)


@adapter
def selector(call: Call) -> Answer:
    """Scorer weights come as a file, as a user would give them."""
    from safetensors.torch import save_file

    names = ("q_proj.weight", "q_proj.bias", "k_proj.weight", "k_proj.bias")
    arrays = _context.tensors(call.case, torch.float32)
    path = call.tmp / "selector.safetensors"
    save_file({name: arrays[name.replace("_proj.", "_")].contiguous() for name in names}, path)
    method = call.build(selector_path=str(path))
    ctx = _context.context(call.case, call.dtype, call.note)
    torch.testing.assert_close(method.score(ctx).float(), arrays["scores"], rtol=1e-4, atol=1e-5)
    return answer(one_stage(method), ctx)


from tests.golden import _adapters_intra  # noqa: E402, F401  registers the adapters of the methods inside the language model
