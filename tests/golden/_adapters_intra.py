"""Adapters of the methods that look inside the language model. Imported by ``_adapters.py``, which
registers them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.golden import _context
from tests.golden._adapters import Answer, Call, adapter, one_stage
from unibench import Selection, Stage, StageContext
from unibench.calibrate import divergences, found
from unibench.cost.accounting import processed
from unibench.methods.fitprune import attention_flow
from unibench.methods.mustdrop import MustDrop
from unibench.pruning import Item, Part
from unibench.pruning.attention import QueryKey
from unibench.registry import build_method


@dataclass(frozen=True)
class Stored(StageContext):
    """A context that answers from stored arrays where the engine would look at a decoder layer.

    Attributes:
        rows: queries of ``hidden`` (None: the last) -> ``[heads, queries, N]``; None asks
            ``query_key``.
        stored_keys: ``[T, heads * head_dim]``.
        normed: ``[T, D]`` the states after the final norm.
    """

    rows: Callable[[Tensor | None], Tensor] | None = field(default=None, repr=False)
    stored_keys: Tensor | None = field(default=None, repr=False)
    normed: Tensor | None = field(default=None, repr=False)

    def attention(self, layer: int, queries: Tensor | None = None) -> Tensor:
        return super().attention(layer, queries) if self.rows is None else self.rows(queries)

    def keys(self, layer: int, rows: Tensor | None = None) -> Tensor:
        assert self.stored_keys is not None
        return self.stored_keys[self.visual if rows is None else rows][None]

    def final_norm(self, hidden: Tensor) -> Tensor:
        assert self.normed is not None
        return self.normed

    def input_norm(self, hidden: Tensor) -> Tensor:
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
    kl = torch.stack(
        [
            divergences(*logits)
            for logits in zip(arrays["logits_full"], arrays["logits_drop"], strict=True)
        ]
    )
    torch.testing.assert_close(kl, arrays["kl"], rtol=1e-4, atol=1e-6)
    search = found(arrays["kl"], float(arrays["eta"]), 5)
    torch.testing.assert_close(
        torch.tensor(search.divergences), arrays["kl_mean"], rtol=1e-4, atol=1e-6
    )
    assert search.layer == found(kl, float(arrays["eta"]), 5).layer == int(arrays["k_found"])
    ctx = stored(
        call,
        stage,
        torch.zeros(len(arrays["position_ids_keep"]) + stop - start, 1),
        start,
        stop,
        keep=0,
    )
    return Answer(chosen(stage, ctx).keep, None)


@adapter
def pyramiddrop(call: Call) -> Answer:
    """``queries_last [3, H, dh]`` and ``keys [3, H, T, dh]`` in original numbering, for the tokens
    still present.
    """
    arrays = _context.tensors(call.case, call.dtype)
    start, stop = span(arrays)
    length = arrays["keys"].shape[2]
    stages = call.build().stages(32)
    present = torch.arange(stop - start)
    for number, stage in enumerate(stages):
        assert stage.layer == call.case.params["layers"][number]
        assert stage.needs.entering
        rows = torch.cat([torch.arange(start), present + start, torch.arange(stop, length)])
        keys = arrays["keys"][number][:, rows]
        query = torch.zeros_like(keys)
        query[:, -1] = arrays["queries_last"][number]
        qk = QueryKey(query, keys, keys.shape[-1] ** -0.5)
        assert stage.count is not None
        keep = stage.count(call.case.keep, stop - start)
        assert keep == call.case.params["counts"][number]
        ctx = stored(
            call,
            stage,
            torch.zeros(len(rows), 1),
            start,
            start + len(present),
            keep=keep,
            query_key=lambda layer, qk=qk: qk,
        )
        torch.testing.assert_close(
            call.build().score(ctx), arrays[f"scores_stage{number}"][present], rtol=1e-4, atol=1e-7
        )
        present = present[chosen(stage, ctx).keep]
        assert present.tolist() == arrays[f"kept_stage{number}"].tolist()
    counts = processed(stages, call.case.keep, stop - start, 32)
    assert list(counts) == arrays["tokens_per_layer_32"].tolist()
    return Answer(present, None)


@adapter
def dart(call: Call) -> Answer:
    """Keys and normed states; the official union exceeds the request, the default is exactly what
    is asked.
    """
    arrays = _context.tensors(call.case, call.dtype)
    start, stop = span(arrays)

    def context(method: Any, keep: int) -> Stored:
        more = dict(keep=keep, stored_keys=arrays["keys"], normed=arrays["hidden_norm"])
        return stored(call, one_stage(method), arrays["hidden"], start, stop, **more)

    if (
        call.options.get("variant") == "official_bug"
    ):  # the default answers the union's size, in its own order of pivots
        plain = call.build(variant="default")
        same = chosen(one_stage(plain), context(plain, len(arrays["kept"])))
        assert same.keep.tolist() == arrays["kept_order_image_first"].tolist()
    method = call.build()
    return Answer(
        chosen(one_stage(method), context(method, call.case.params["requested"])).keep, None
    )


@adapter
def dart_angelslim(call: Call) -> Answer:
    """Keys and normed states of the layer before the cut, as its first stage remembers them."""
    arrays = _context.tensors(call.case, call.dtype)
    start, stop = span(arrays)
    first, cut = call.build().stages(32)
    more = dict(stored_keys=arrays["keys"], normed=arrays["states"])
    ctx = stored(call, cut, torch.zeros_like(arrays["states"]), start, stop, **more)
    assert first.select(ctx) is None
    return Answer(chosen(cut, ctx).keep, None)


@adapter
def visual_softmax(call: Call) -> Answer:
    """Queries of the last token and all keys of the layer before the cut."""
    arrays = _context.tensors(call.case, call.dtype)
    start, stop = span(arrays)
    keys, last = arrays["keys"], arrays["query"]
    query = torch.zeros(len(last), keys.shape[1], last.shape[-1], dtype=last.dtype)
    query[:, -1] = last
    found = QueryKey(query, keys, last.shape[-1] ** -0.5)
    (cut,) = call.build().stages(32)
    states = torch.zeros(keys.shape[1], 1, dtype=last.dtype)
    ctx = stored(call, cut, states, start, stop, query_key=lambda layer: found)
    return Answer(chosen(cut, ctx).keep, None)


@adapter
def sparsevlm(call: Call) -> None:
    """Three cuts, each with the states, the text rows and the raters of its own; kept and merged
    rows of all.
    """
    arrays = _context.tensors(call.case, call.dtype)
    look, *cuts = call.build(layers=[layer + 1 for layer in call.case.params["layers"]]).stages(32)
    first = stored(call, look, arrays["hidden"], *span(arrays))
    assert look.layer == 0
    assert look.select(first) is None
    assert (first.memory["raters"] - span(arrays)[1]).tolist() == arrays[
        "s0_raters"
    ].tolist()  # stored relative to the text
    for number, stage in enumerate(cuts):
        own = {
            name.removeprefix(f"s{number}_"): array
            for name, array in arrays.items()
            if name.startswith(f"s{number}_")
        }
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
        assert stage.count is not None
        assert stage.count(1, call.case.params["n_visual"]) == official["n_visual_out"]
        selection = stage.select(ctx)
        assert selection is not None
        assert selection.values is not None
        kept = len(own["kept"])
        given = set(selection.keep[:kept].tolist())
        may = set(own.get("may", own["kept"]).tolist())
        assert (
            set(own.get("must", own["kept"]).tolist()) <= given <= may | set(own["kept"].tolist())
        )
        torch.testing.assert_close(
            selection.values[:kept], ctx.visual_hidden[selection.keep[:kept]]
        )
        assert len(selection.keep) == official["n_visual_out"]
        assert _context.same_rows(own["merged"].cpu().numpy(), selection.values[kept:])


@adapter
def fitprune(call: Call) -> Answer:
    """Queries and keys of one layer; both parts of the score, and the tokens left by a recipe for
    that layer alone.
    """
    arrays = _context.tensors(call.case, torch.float32)
    start, stop = span(arrays)
    recipe = [0] * 32
    recipe[call.case.params["layer"]] = 1
    stage = one_stage(call.build(recipe=recipe))
    assert stage.layer == call.case.params["layer"] + 1
    assert stage.count is not None
    assert stage.count(call.case.keep, stop - start) == call.case.keep
    qk = QueryKey(arrays["queries"], arrays["keys"], arrays["keys"].shape[-1] ** -0.5)
    ctx = stored(call, stage, arrays["hidden"], start, stop, query_key=lambda layer: qk)
    cross, own = attention_flow(ctx, stage.layer - 1)
    torch.testing.assert_close(cross, arrays["cross"], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(own, arrays["self_attention"], rtol=1e-4, atol=1e-7)
    kept = chosen(stage, ctx).keep
    assert kept.tolist() != arrays["kept_uniprunebench_defective"].tolist()
    return Answer(kept, None)


@adapter
def mustdrop(call: Call) -> None:
    """Merged windows, key set, four cuts and the caches; numbers are those of the official order of
    merged tokens.
    """
    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    slot, start = arrays["merge_slot"], int(arrays["visual_start"])
    method = call.build(
        window=params["window"][0], layers=[layer + 1 for layer in params["layers"]]
    )
    assert isinstance(method, MustDrop)
    merge, *cuts = method.stages(32)
    count, side = len(slot), math.isqrt(len(slot))
    vision = _context.StubVision(
        {
            "features": arrays["vision_hidden"][1:],
            "cls_attention": arrays["cls_attention"].mean(0)[1:][slot],
        }
    )
    memory: dict[str, Tensor] = {}
    more: dict[str, Any] = dict(
        vision=vision,
        family=_context.StubFamily(cls=True),
        items=(Item(0, count, (Part(1, side, side),)),),
        memory=memory,
    )
    merged = chosen(merge, stored(call, merge, arrays["vision_hidden"][1:], 0, count, **more))
    assert merged.values is not None
    assert _context.same_rows(arrays["merged"].cpu().numpy(), merged.values)
    anchor = torch.empty(len(merged.keep), dtype=torch.long)
    anchor[slot[merged.keep]] = merged.keep
    assert set(slot[memory["key"]].tolist()) == set(arrays["key_set"].tolist())
    present, entering = anchor.sort().values, [len(anchor)] * 3
    for number, stage in enumerate(cuts):
        asked = arrays[f"attention_s{number}"][
            :, :, slot[present].argsort().argsort()
        ]  # columns in our order
        hidden = torch.zeros(start + len(present) + asked.shape[1], 1)
        ctx = stored(
            call,
            stage,
            hidden,
            start,
            start + len(present),
            vision_rows=present,
            memory=memory,
            rows=lambda _, a=asked: a,
        )
        present = present[chosen(stage, ctx).keep]
        assert slot[present].sort().values.tolist() == arrays[f"kept_s{number}"].tolist()
        entering += [len(present)] * (4 if number < 3 else 17)
    held = []
    seen = {layer: anchor.sort().values for layer in range(3)}
    kept = [torch.arange(len(anchor)), *(arrays[f"kept_s{number}"] for number in range(4))]
    for layer in range(32):
        slots = kept[sum(layer >= stage.layer for stage in cuts)]
        rows = seen.get(layer, anchor[slots].sort().values)
        ctx = stored(
            call,
            merge,
            torch.zeros(start + len(rows), 0),
            start,
            start + len(rows),
            layer=layer,
            vision_rows=rows,
            memory=memory,
        )
        stays = method.evict(ctx)
        held.append(len(rows) if stays is None else len(stays))
    assert held == arrays["kv_visual_per_layer_after_prefill"].tolist()
    assert entering[:32] == [
        len(kept[sum(layer >= stage.layer for stage in cuts)]) for layer in range(32)
    ]


@adapter
def two_stage(call: Call) -> Answer:
    """The scheduler of UniPruneBench on synthetic attention rows: whole parts of the current
    number, stage by stage.
    """
    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    start, stop = span(arrays)
    total = stop - start
    pre = params["pre"].removesuffix("_pre_llm").replace("random", "random_pre")
    plan = [entry.split(":") for entry in params["plan"].split(";")]
    options: dict[str, Any] = {
        "pre": pre,
        "pre_ratio": round(1 - params["pre_keep_ratio"], 6),
        **call.options,
    }
    if len(plan) == 1:
        ((layer, name, share),) = plan
        options |= {
            "intra": name.removesuffix("_llm").replace("fastv_intra", "fastv"),
            "intra_options": {"layer": int(layer)},
        }
        options["intra_ratio"] = round(1 - float(share), 6)
    else:  # pdrop of UniPruneBench scores as fastv does
        cuts = [[int(layer), float(share)] for layer, _, share in plan]
        options |= {"intra": "schedule", "intra_options": {"cuts": cuts, "variant": "official_bug"}}
    first, *cuts_ = build_method("two_stage", **options).stages(params["n_layers"])
    ctx = stored(
        call, first, arrays["hidden"], start, stop, keep=first.count(params["kept_final"], total)
    )
    kept = chosen(first, ctx).keep
    official = "variant" in call.options or len(plan) > 1
    if official:
        expected = arrays["kept_pre"].tolist()
        assert len(kept) == len(expected) if "random" in pre else kept.tolist() == expected
    for stage in cuts_:
        assert stage.count is not None
        before = arrays.get(f"tokens_before_layer{stage.layer}", kept)
        rows = arrays.get(f"attention_row_layer{stage.layer}")
        order = before.argsort()  # columns in sequence order
        ctx = stored(
            call,
            stage,
            torch.zeros(start + len(before) + 1, 1),
            start,
            start + len(before),
            keep=stage.count(params["kept_final"], total),
            vision_rows=before[order],
            rows=lambda _, rows=rows, order=order: rows[:, None, start : start + len(order)][
                :, :, order
            ],
        )
        kept = before[order][chosen(stage, ctx).keep]
        if official and rows is not None:
            assert kept.tolist() == arrays[f"kept_layer{stage.layer}"].tolist()
    return Answer(kept, None)
