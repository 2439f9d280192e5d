"""Adapters of the image methods of 2025 and 2026. Imported by ``_adapters.py``, which registers
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden import _context
from tests.golden._adapters import Answer, Call, adapter, answer, one_stage
from tests.golden._adapters_intra import Stored, chosen, stored
from unibench import StageContext
from unibench.cost.accounting import processed
from unibench.methods._cuts import text_attention
from unibench.methods._prior import Prior
from unibench.methods.mmtok import content_words
from unibench.methods.visiontrim import local_affinity
from unibench.methods.zoo_prune import sensitivity
from unibench.ops import top_k
from unibench.pruning import Item, Part
from unibench.pruning.attention import QueryKey


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
        family = _context.StubFamily(cls=True)
        more: dict[str, Any] = dict(vision_rows=present, memory=memory, family=family)
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


@adapter
def duet(call: Call) -> Answer:
    """The part before the language model; officially the CLS row comes first, the anchors last."""
    arrays = _context.tensors(call.case, call.dtype)
    found = answer(one_stage(call.build()), _context.context(call.case, call.dtype, call.note))
    official = torch.cat([arrays["dominant"], arrays["anchors"]])
    assert found.rows is not None
    close(found.rows, arrays["merged"][1:][official.argsort()], atol=2e-4)
    return found


@dataclass(frozen=True)
class Asking(Stored):
    """A context whose question is told.

    Attributes:
        asked: rows of ``hidden``.
    """

    asked: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def question(self) -> Tensor:
        return self.asked


@adapter
def duet_intra(call: Call) -> Answer:
    """Two cuts; queries and keys of the second are of all rows, those still present are taken."""
    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    start, total, length = params["visual_start"], params["n_visual"], len(arrays["s0_keys"][0])
    salient = params.get("salient")
    queries = {} if salient is None else {"queries": "question"}
    before, *cuts = call.build(**queries).stages(32)
    assert before.count is None
    assert [stage.layer for stage in cuts] == [16, 24]
    present, memory = torch.arange(total), {}
    plain, defective = "variant" not in call.options, call.case.folder.endswith("official_bug")
    for number, stage in enumerate(cuts):
        rows = torch.cat(
            [torch.arange(start), present + start, torch.arange(start + total, length)]
        )
        name = "" if number == 0 else "_full"
        query, key = (arrays[f"s{number}_{part}{name}"][:, rows] for part in ("queries", "keys"))
        qk = QueryKey(query, key, key.shape[-1] ** -0.5)
        asked = torch.tensor(salient or []) - 1 + len(present)  # the picture is one token there
        keep = stage.count(total, total)
        base = stored(call, stage, torch.zeros(len(rows), 1), start, start + len(present))
        values = {
            **vars(base),
            "keep": keep,
            "memory": memory,
            "query_key": lambda layer, qk=qk: qk,
        }
        ctx = Asking(**values, asked=asked)
        if plain and not defective:
            asking = ctx.instruction if salient is None else asked
            close(text_attention(ctx, stage.layer, asking), arrays[f"s{number}_scores"], atol=1e-7)
        present = present[chosen(stage, ctx).keep]
        assert len(present) == keep
        if not plain or not defective:
            assert keep == params["counts"][number]
            assert present.tolist() == arrays[f"s{number}_kept"].tolist()
    return Answer(present, None)


@dataclass(frozen=True)
class TwoLayers:
    """Signals of a shallow and of a deep vision block; those of other blocks are not there."""

    shallow: Tensor
    deep: Tensor
    merged: Tensor | None = None

    def received(self, layer: int, fill: float = 0.0, **how: Any) -> Tensor:
        return {OneLayerEach.local_layer: self.shallow, OneLayerEach.saliency_layer: self.deep}[
            layer
        ]

    cls = received


class OneLayerEach(_context.StubFamily):
    """A family that names its shallow block."""

    local_layer = 5


@adapter
def vscan(call: Call) -> Answer:
    """The part before the language model, whose count is told."""
    arrays = _context.tensors(call.case, call.dtype)
    scan, cut = call.build().stages(32)
    assert (scan.layer, cut.layer) == (0, 16)
    if "shallow_heads" in arrays:
        for name in ("shallow", "deep"):
            close(arrays[f"{name}_heads"].mean(0), arrays[f"{name}_scores"])
    ctx = replace(
        _context.context(call.case, call.dtype, call.note),
        family=OneLayerEach(cls="shallow_heads" in arrays),
        vision=TwoLayers(arrays["shallow_scores"], arrays["deep_scores"]),
    )
    return answer(scan, ctx)


class Unrotated(_context.StubFamily):
    """A family whose decoder layer makes stored queries and keys."""

    def __init__(self, qk: QueryKey) -> None:
        super().__init__(cls=False)
        self.qk = qk

    def unrotated(self, layer: int, hidden: Tensor) -> QueryKey:
        return QueryKey(self.qk.query[None], self.qk.key[None], self.qk.scaling)


@adapter
def vscan_intra(call: Call) -> Answer:
    """The cut inside the language model: queries of the last prompt token, keys of all."""
    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    _, stage = call.build().stages({16: 32, 14: 28}[params["layer"]])
    assert stage.layer == params["layer"]
    keys = arrays["keys"]
    query = keys.new_zeros(len(arrays["queries_last"]), *keys.shape[1:])
    query[:, -1] = arrays["queries_last"]
    qk = QueryKey(query, keys, keys.shape[-1] ** -0.5)
    qwen = params["code"] == "qwen"
    assert stage.needs.entering != qwen
    more = dict(family=Unrotated(qk)) if qwen else dict(query_key=lambda layer: qk)
    start, stop = int(arrays["visual_start"]), int(arrays["visual_end"])
    hidden = torch.zeros(keys.shape[1], 1)
    ctx = stored(call, stage, hidden, start, stop, **more)
    close(call.build().score(ctx), arrays["scores"], atol=1e-7)
    return Answer(chosen(stage, ctx).keep, None)


@adapter
def d2pruner(call: Call) -> Answer:
    """The prior comes as a file, as a user would give it; the last row of attention is told."""
    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    size, count = (params["grid_h"], params["grid_w"]), len(arrays["importance"])
    path = call.tmp / "prior.safetensors"
    Prior({size: arrays["prior"].view(size)}).save(path)
    method = call.build(prior=str(path))
    stage = one_stage(method)
    assert stage.layer == 2
    ctx = stored(
        call,
        stage,
        arrays["features"],
        0,
        count,
        items=(Item(0, count, (Part(1, *size),)),),
        rows=lambda queries: arrays["importance"][None, None],
    )
    close(method.score(ctx), arrays["scores"], rtol=1e-3)
    return answer(stage, ctx)


class Projecting(_context.StubFamily):
    """A family with a projector of two linear layers."""

    def __init__(self, arrays: dict[str, Tensor]) -> None:
        super().__init__(cls=True)
        self.projector = tuple(
            layer.to(arrays["w1"]) for layer in (_linear(arrays, 1), nn.GELU(), _linear(arrays, 2))
        )


def _linear(arrays: dict[str, Tensor], number: int) -> nn.Linear:
    weight = arrays[f"w{number}"]
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(arrays[f"b{number}"])
    return layer.requires_grad_(False)


@dataclass(frozen=True)
class Entering:
    """A tower of which only the projector's input is seen."""

    entered: Tensor

    def projector_input(self) -> Tensor:
        return self.entered


@adapter
def zoo_prune(call: Call) -> Answer:
    """Stored directions take the place of drawn ones; tiles choose one after the other."""
    arrays, params = _context.tensors(call.case, torch.float32), call.case.params
    kind, family = type(call.build()), Projecting(arrays)

    class Told(kind):  # type: ignore[misc, valid-type]
        """The method, told its directions."""

        def pushes(self, ctx: StageContext, width: int) -> Tensor:
            return arrays["directions"]

    method = Told(**vars(call.build()))
    out = arrays["features"]
    for layer in family.projector:
        out = layer(out)
    close(out, arrays["projected"])
    pushed = sensitivity(
        arrays["features"], arrays["directions"], family.projector, params["step"], None
    )
    close(pushed, arrays["sensitivity"], rtol=1e-3)
    size, found = params["n_visual"] // params["tiles"], []
    for start in range(0, params["n_visual"], size):
        rows = slice(start, start + size)
        vision = Entering(arrays["features"][rows])
        more = dict(vision=vision, family=family, keep=params["keep_per_tile"])
        ctx = stored(call, one_stage(method), arrays["projected"][rows], 0, size, **more)
        found.append(answer(one_stage(method), ctx).kept + start)
    return Answer(torch.cat(found), None)


@adapter
def mmtok(call: Call) -> Answer:
    """States before the projector are stored apart; what is padding is told."""
    arrays = _context.tensors(call.case, call.dtype)
    for question, left in call.case.params.get("keywords", ()):
        assert content_words(question) == left
    ctx = _context.context(call.case, call.dtype, call.note)
    padded = torch.zeros(len(ctx.visual), dtype=torch.bool)
    excluded = arrays.get("excluded")
    vision = _context.StubVision({"features": arrays["clip_features"]})
    told = replace(
        ctx,
        vision=vision,
        padded=None if excluded is None else padded.index_fill(0, excluded, True),
    )
    # the sequence of the case is the visual tokens and then the words
    assert torch.equal(call.build().words(told, True), arrays["text"])
    return answer(one_stage(call.build()), told)


@dataclass(frozen=True)
class EarlyAndLate:
    """Attention of CLS in the first block and in the one that makes the features."""

    early: Tensor | None
    late: Tensor
    merged: Tensor | None = None

    def cls(self, layer: int, fill: float = 0.0, **how: Any) -> Tensor:
        found = self.late if layer == _context.StubFamily.saliency_layer else self.early
        assert found is not None
        return found

    def tiles_across(self, rows: Tensor, tiles: int) -> int:
        return 0


@adapter
def hired(call: Call) -> Answer:
    """An overview and tiles stitched to one grid."""
    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    count, down, across = params["n_visual"], params["tile_rows"], params["tile_cols"]
    parts: tuple[Part, ...] = (Part(1, 1, count),)
    if down:
        side = params["side"]
        starts = [tuple(side * tile for tile in range(tiles)) for tiles in (down, across)]
        stitched = Part(1, down * side, across * side, "", False, *starts)
        parts = (Part(1, side, side, overview=True), stitched)
    ctx = replace(
        _context.context(call.case, call.dtype, call.note),
        items=(Item(0, count, parts),),
        vision=EarlyAndLate(
            arrays.get("cls_attention_first"),
            arrays.get(
                "cls_attention_last", arrays["cls_attention_heads"].sum(0) if not down else None
            ),
        ),
    )
    if down and "variant" in call.options:
        tile = torch.cat([torch.full((side**2,), number) for number in range(1 + down * across)])
        kept = answer(one_stage(call.build()), ctx).kept
        found = tile[arrays["stitched"][kept]].bincount(minlength=1 + down * across)
        assert found.tolist() == arrays["budgets"].tolist()
    return answer(one_stage(call.build()), ctx)


@dataclass(frozen=True)
class WholeMap:
    """A vision block of which the whole attention map is stored, CLS first."""

    map: Tensor  # [1 + N, 1 + N], mean over heads

    def cls(self, layer: int, fill: float = 0.0, **how: Any) -> Tensor:
        return self.map[0, 1:]

    def received(self, layer: int, fill: float = 0.0, **how: Any) -> Tensor:
        assert how == {"others": True}
        patches = self.map[1:, 1:].clone().fill_diagonal_(0)
        return patches.sum(0) / (len(patches) - 1)

    def hidden(self, layer: int) -> Tensor:
        raise AssertionError("told by the context")


@dataclass(frozen=True)
class Words:
    """A common space of stored words."""

    rows: Tensor
    weight: Tensor

    def words(self, ids: Tensor) -> Tensor:
        return self.rows

    def project(self, hidden: Tensor) -> Tensor:
        return hidden @ self.weight.T


@dataclass(frozen=True)
class TowerStates(WholeMap):
    """The same, with the states that go to the projector."""

    states: Tensor = field(default_factory=lambda: torch.empty(0))

    def hidden(self, layer: int) -> Tensor:
        return self.states


@adapter
def visiontrim(call: Call) -> Answer:
    """The stage before the language model; official rows: dominant, then sums."""
    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    side, count = params["side"], params["n_visual"]
    family = _context.StubFamily(cls=True)
    family.clip = lambda: Words(arrays["text"], arrays["visual_projection"])  # type: ignore[attr-defined]
    ctx = replace(
        _context.context(call.case, call.dtype, call.note),
        vision=TowerStates(arrays["attention"].mean(0), arrays["features"]),
        family=family,
        items=(Item(0, count, (Part(1, side, side),)),),
        input_ids=torch.arange(count + len(arrays["text"])),
    )
    method = call.build()
    close(method.metric(ctx, arrays["features"]), arrays["metric"], atol=1e-7)
    if "variant" in call.options:
        local = local_affinity(arrays["features"], ctx.grids()).softmax(0)
        close(local, arrays["local"])
    found = answer(one_stage(method), ctx)
    official = torch.cat([arrays["dominant"], arrays["centres"]])
    assert found.rows is not None
    close(found.rows, arrays["merged"][official.argsort()], atol=2e-4)
    return replace(found, rows=None)


@adapter
def visiontrim_intra(call: Call) -> Answer:
    """The stage inside the language model; official rows by falling score."""
    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    start, count = params["visual_start"], params["n_visual"]
    _, stage = call.build().stages(32)
    visual = slice(start, start + count)
    ctx = stored(
        call,
        stage,
        arrays["hidden"],
        start,
        start + count,
        rows=lambda queries: arrays["attention"][:, queries][:, :, visual],
    )
    close(text_attention(ctx, 0, ctx.instruction), arrays["scores"], atol=1e-7)
    found = chosen(stage, ctx)
    assert found.values is not None
    close(found.values, arrays["merged"][arrays["order"].argsort()], atol=2e-4)
    return Answer(found.keep, None)


@adapter
def pact(call: Call) -> Answer:
    """Queries and keys before and after the rotation, of all rows up to the last visual one."""
    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    prefix, count, heads = params["prefix"], params["n_visual"], params["head_dim"]

    def by_head(rows: Tensor) -> Tensor:
        return rows.unflatten(1, (-1, heads)).transpose(0, 1)

    # the prompt goes on behind the picture, which is not read
    query, key = (nn.functional.pad(arrays[name], (0, 0, 0, 3)) for name in ("queries", "keys"))
    rotated = nn.functional.pad(arrays["keys_rotated"], (0, 0, prefix, 3))
    hidden = nn.functional.pad(arrays["hidden"], (0, 0, prefix, 3))
    qk = QueryKey(by_head(query), by_head(key), heads**-0.5)
    turned = QueryKey(by_head(query), by_head(rotated), heads**-0.5)
    stage = one_stage(call.build())
    assert (stage.layer, stage.exact) == (4, False)
    ctx = stored(
        call,
        stage,
        hidden,
        prefix,
        prefix + count,
        family=Unrotated(qk),
        query_key=lambda layer: turned,
    )
    score = call.build().score(ctx)
    close(score, arrays["scores"], atol=1e-6)
    kept = int(count * params["share_kept_by_pruning"])
    assert top_k(score, kept).tolist() == arrays["survivors"].tolist()
    found = answer(stage, replace_keys(ctx, turned))
    assert found.rows is not None
    close(found.rows, arrays["merged"], atol=2e-4)
    return replace(found, rows=None)


def replace_keys(ctx: Stored, qk: QueryKey) -> Stored:
    """The context whose keys are those of stored queries and keys."""
    return replace(ctx, stored_keys=qk.key.transpose(0, 1).flatten(1))
