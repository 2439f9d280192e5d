"""How the arrays of a case reach a method. Most cases need ``select`` alone; an adapter is one
small function.

To add one, write a function that takes a :class:`Call`, decorate it with :func:`adapter`, and name
it in ``map.yaml``. It returns what the method answered, or None if it made its own comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.golden import _context
from tests.golden._cases import Case
from unibench import Method, Stage
from unibench.ops import proportional_attention, soft_top_k, top_k
from unibench.pruning.attention import QueryKey, received_attention
from unibench.registry import build_method

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
    return Answer(
        kept, ctx.visual_hidden[kept] if selection.values is None else selection.values[order]
    )


@adapter
def select(call: Call) -> Answer:
    """Features and vision signals in, indices out; ``params.scope`` may ask for two pools."""
    stage = one_stage(call.build())
    ctx = _context.context(call.case, call.dtype, call.note, stage.layer)
    if call.case.params.get("scope") != "tile0+rest":
        return answer(stage, ctx)
    first, total = call.case.params["tile_tokens"], len(ctx.visual)
    ratio, whole = (
        call.case.params["keep_ratio"],
        round if call.method == "divprune" else int,
    )  # as UniPruneBench rounds each
    pools = [(0, first), (first, total)]
    parts = [
        answer(stage, _context.narrowed(ctx, a, b, max(1, whole(ratio * (b - a)))))
        for a, b in pools
    ]
    return Answer(
        torch.cat([part.kept + a for part, (a, _) in zip(parts, pools, strict=True)]), None
    )


@adapter
def inside(call: Call) -> Answer:
    """A method that reads nothing but the number of visual tokens in front of a decoder layer."""
    stage = one_stage(call.build())
    return answer(stage, _context.context(call.case, call.dtype, call.note, stage.layer))


@adapter
def last_row(call: Call) -> Answer:
    """``attention_row [H, T]``: the last token's row at the layer before the cut."""
    arrays = _context.tensors(call.case, call.dtype)
    row, start, stop = (
        arrays["attention_row"],
        int(arrays["visual_start"]),
        int(arrays["visual_end"]),
    )
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
    for name, number in (
        ("soft_topk_keep", ctx.keep),
        ("soft_topk_ratio02", 0.2 * len(ctx.visual)),
    ):
        if name in arrays:
            torch.testing.assert_close(
                soft_top_k(arrays["scores"], number), arrays[name], rtol=1e-3, atol=1e-5
            )
    return answer(one_stage(method), ctx)


@adapter
def clip(call: Call) -> Answer:
    """Embeddings of patches and question in the space of CLIP."""
    arrays = _context.tensors(call.case, call.dtype)
    ctx = _context.context(call.case, call.dtype, call.note)
    ctx = replace(
        ctx, hidden=ctx.hidden[ctx.visual], clip=lambda: (arrays["image_embeds"], arrays["text"])
    )
    return answer(one_stage(call.build()), ctx)


@adapter
def aligned(call: Call) -> Answer:
    """The alignment of TrimTokenator is stored, so it is compared on the way."""
    method, arrays = call.build(), _context.tensors(call.case, call.dtype)
    ctx = _context.context(call.case, call.dtype, call.note)
    # scikit-learn adds noise of size 1e-10, and counts by trees what is counted exactly here
    torch.testing.assert_close(method.alignment(ctx), arrays["alignment"], rtol=1e-4, atol=1e-5)  # type: ignore[attr-defined]
    return answer(one_stage(method), ctx)


@adapter
def windows(call: Call) -> Answer:
    """The key set of MustDrop belongs to its later stages; its rule is checked here where it is
    stored.
    """
    arrays = _context.tensors(call.case, call.dtype)
    if "key_set" in arrays:
        heads = arrays["merged_cls_attention_heads"]
        number = math.ceil(call.case.params["key_rate"] * heads.shape[1])
        assert torch.equal(top_k(heads.mean(0), number), arrays["key_set"].sort().values)
    return select(call)


@adapter
def matched(call: Call) -> Answer:
    """Bipartite matching, with the CLS token as an ordinary row where the case has one.

    A schedule that halves until the budget is met is the method's default, and run as such.
    """
    ctx, steps = _context.context(call.case, call.dtype, call.note), []
    while (left := len(ctx.visual) - sum(steps)) > ctx.keep:
        steps.append(min(left - ctx.keep, left // 2))
    default = steps == call.options["schedule"] and not call.options["class_token"]
    return answer(one_stage(call.build(**({"schedule": ()} if default else {}))), ctx)


@adapter
def proportional(call: Call) -> None:
    """Attention weighted by the size of merged tokens: shared mathematics, no selection."""
    arrays, heads = _context.tensors(call.case, call.dtype), call.case.params["num_heads"]
    query, key, value = (
        (arrays["x"] @ arrays["w_qkv"]).unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)
    )
    out = proportional_attention(query, key, value, arrays["size"])
    torch.testing.assert_close(out.transpose(0, 1).flatten(1), arrays["out"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(key.mean(0), arrays["key_mean"], rtol=1e-4, atol=1e-5)


@adapter
def recomputed(call: Call) -> Answer:
    """Queries and keys are stored too: what the engine makes of them is what the method is given."""
    arrays = _context.tensors(call.case, call.dtype)
    pairs = {
        "q": ("k", "scores"),
        "q_shallow": ("k_shallow", "shallow_scores"),
        "q_deep": ("k_deep", "deep_scores"),
    }
    for query, (key, scores) in pairs.items():
        if query in arrays:
            qk = QueryKey(arrays[query][None], arrays[key][None], arrays[query].shape[-1] ** -0.5)
            torch.testing.assert_close(
                received_attention(qk)[0] * len(arrays[scores]),
                arrays[scores].float(),
                rtol=1e-4,
                atol=1e-6,
            )
    return select(call)


from tests.golden import (
    _adapters_controls,  # noqa: F401
    _adapters_images,  # noqa: F401
    _adapters_intra,  # noqa: F401
    _adapters_video,  # noqa: F401
)
