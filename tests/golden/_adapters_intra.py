"""Adapters of the methods that look inside the language model. Imported by ``_adapters.py``, which registers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.golden import _context
from tests.golden._adapters import Answer, Call, adapter, one_stage
from unibench import Selection, Stage, StageContext
from unibench.cost.accounting import processed
from unibench.pruning.attention import QueryKey


@dataclass(frozen=True)
class Stored(StageContext):
    """A context that answers from stored arrays where the engine would look at a decoder layer.

    Attributes:
        rows: queries of ``hidden`` (None: the last) -> ``[heads, queries, N]``.
        stored_keys: ``[T, heads * head_dim]``.
        normed: ``[T, D]`` the states after the final norm.
    """

    rows: Callable[[Tensor | None], Tensor] = field(default=lambda queries: torch.empty(0), repr=False)
    stored_keys: Tensor | None = field(default=None, repr=False)
    normed: Tensor | None = field(default=None, repr=False)

    def attention(self, layer: int, queries: Tensor | None = None) -> Tensor:
        return self.rows(queries) if self.query_key is None else super().attention(layer, queries)

    def keys(self, layer: int, rows: Tensor | None = None) -> Tensor:
        assert self.stored_keys is not None
        return self.stored_keys[self.visual if rows is None else rows][None]

    def final_norm(self, hidden: Tensor) -> Tensor:
        assert self.normed is not None
        return self.normed


def stored(call: Call, stage: Stage, hidden: Tensor, start: int, stop: int, **more: Any) -> Stored:
    """The context of one stage: visual tokens at ``start:stop`` of ``hidden``."""
    count = stop - start
    values: dict[str, Any] = dict(
        layer=stage.layer,
        keep=call.case.keep,
        total=count,
        hidden=hidden,
        visual=torch.arange(start, stop),
        origin=torch.arange(len(hidden)),
        vision_rows=torch.arange(count),
        sample=call.case.name,
        note=call.note,
    )
    return Stored(**{**values, **more})


def chosen(stage: Stage, ctx: StageContext) -> Selection:
    selection = stage.select(ctx)
    assert selection is not None
    keep, order = selection.keep.sort()
    return Selection(keep, None if selection.values is None else selection.values[order])


def span(arrays: dict[str, Tensor], prefix: str = "") -> tuple[int, int]:
    return int(arrays[f"{prefix}visual_start"]), int(arrays[f"{prefix}visual_end"])


@adapter
def vtw(call: Call) -> Answer:
    """Nothing is left at layer K; tokens of every layer; the search of K on stored logits."""
    arrays = _context.tensors(call.case, call.dtype)
    depth, (start, stop) = int(arrays["n_layers"]), span(arrays)
    (stage,) = call.build().stages(depth)
    assert stage.layer == int(arrays["withdraw_layer"])
    counts = processed([stage], 1, stop - start, depth)
    assert list(counts) == arrays["tokens_per_layer"].tolist()
    ctx = stored(call, stage, torch.zeros(len(arrays["position_ids_keep"]) + stop - start, 1), start, stop, keep=0)
    return Answer(chosen(stage, ctx).keep, None)


@adapter
def pyramiddrop(call: Call) -> Answer:
    """``queries_last [3, H, dh]`` and ``keys [3, H, T, dh]`` in original numbering, for the tokens still present."""
    arrays = _context.tensors(call.case, call.dtype)
    start, stop = span(arrays)
    length = arrays["keys"].shape[2]
    stages = call.build().stages(32)
    present = torch.arange(stop - start)
    for number, stage in enumerate(stages):
        assert stage.layer == call.case.params["layers"][number] and stage.needs.entering
        rows = torch.cat([torch.arange(start), present + start, torch.arange(stop, length)])
        keys = arrays["keys"][number][:, rows]
        query = torch.zeros_like(keys)
        query[:, -1] = arrays["queries_last"][number]
        qk = QueryKey(query, keys, keys.shape[-1] ** -0.5)
        assert stage.count is not None
        keep = stage.count(call.case.keep, stop - start)
        assert keep == call.case.params["counts"][number]
        ctx = stored(call, stage, torch.zeros(len(rows), 1), start, start + len(present), keep=keep, query_key=lambda layer, qk=qk: qk)
        torch.testing.assert_close(call.build().score(ctx), arrays[f"scores_stage{number}"][present], rtol=1e-4, atol=1e-7)
        present = present[chosen(stage, ctx).keep]
        assert present.tolist() == arrays[f"kept_stage{number}"].tolist()
    counts = processed(stages, call.case.keep, stop - start, 32)
    assert list(counts) == arrays["tokens_per_layer_32"].tolist()
    return Answer(present, None)


@adapter
def dart(call: Call) -> Answer:
    """Keys and normed states; the official union exceeds the request, the default is exactly what is asked."""
    arrays = _context.tensors(call.case, call.dtype)
    start, stop = span(arrays)

    def context(method: Any, keep: int) -> Stored:
        more = dict(keep=keep, stored_keys=arrays["keys"], normed=arrays["hidden_norm"])
        return stored(call, one_stage(method), arrays["hidden"], start, stop, **more)

    if call.options.get("variant") == "official_bug":  # the default answers the union's size, in its own order of pivots
        plain = call.build(variant="default")
        same = chosen(one_stage(plain), context(plain, len(arrays["kept"])))
        assert same.keep.tolist() == arrays["kept_order_image_first"].tolist()
    method = call.build()
    return Answer(chosen(one_stage(method), context(method, call.case.params["requested"])).keep, None)


@adapter
def sparsevlm(call: Call) -> None:
    """Three cuts, each with the states, the text rows and the raters of its own; kept and merged rows of all."""
    arrays = _context.tensors(call.case, call.dtype)
    look, *cuts = call.build(layers=[layer + 1 for layer in call.case.params["layers"]]).stages(32)
    first = stored(call, look, arrays["hidden"], *span(arrays))
    assert look.layer == 0 and look.select(first) is None
    assert (first.memory["raters"] - span(arrays)[1]).tolist() == arrays["s0_raters"].tolist()  # stored relative to the text
    for number, stage in enumerate(cuts):
        own = {name.removeprefix(f"s{number}_"): array for name, array in arrays.items() if name.startswith(f"s{number}_")}
        start, stop = span(own)
        asked = own["attention"]  # [heads, text, N]
        ctx = stored(
            call,
            stage,
            own["hidden"],
            start,
            stop,
            memory={"raters": own["raters"] + stop},
            rows=lambda queries, asked=asked, stop=stop: asked[:, queries - stop],
        )
        official = call.case.params["stages"][number]
        assert stage.count is not None and stage.count(1, call.case.params["n_visual"]) == official["n_visual_out"]
        selection = stage.select(ctx)
        assert selection is not None and selection.values is not None
        kept = len(own["kept"])
        given = set(selection.keep[:kept].tolist())
        may = set(own.get("may", own["kept"]).tolist())
        assert set(own.get("must", own["kept"]).tolist()) <= given <= may | set(own["kept"].tolist())
        torch.testing.assert_close(selection.values[:kept], ctx.visual_hidden[selection.keep[:kept]])
        assert len(selection.keep) == official["n_visual_out"]
        assert _context.same_rows(own["merged"].numpy(), selection.values[kept:])
