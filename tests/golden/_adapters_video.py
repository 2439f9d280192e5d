"""Adapters of the video methods: frames of one size, newlines, signals of the tower. Imported by
``_adapters.py``, which registers them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.golden import _context
from tests.golden._adapters import DEPTH, Answer, Call, adapter, answer, one_stage
from tests.golden._adapters_intra import chosen, span, stored
from unibench import StageContext
from unibench.pruning import Item, Part, StepContext
from unibench.pruning.attention import QueryKey
from unibench.pruning.signals import Pooled


def part_of(call: Call) -> Part:
    """The frames of a case."""
    sizes = (int(call.case.params[name]) for name in ("frames", "height", "width"))
    rows_end = call.case.params.get("newline") in ("row", "grid")
    return Part(*sizes, newline="row" if rows_end else "")


def video(call: Call, **more: Any) -> StageContext:
    """The context before the language model: the frames of one video, nothing else.

    Where the case has a newline behind each row, it stands in the sequence and ``features`` has
    patches alone.
    """
    arrays, part = _context.tensors(call.case, call.dtype), part_of(call)
    features = arrays["features"]
    shows_patch = ~torch.tensor(part.separators)
    newline = arrays.get(
        "newline", torch.full_like(features[0], 7.0)
    )  # as stored sequences have it
    hidden = newline.expand(len(part), -1).clone()
    hidden[shows_patch] = features
    values: dict[str, Any] = dict(
        layer=0,
        keep=call.case.keep,
        total=len(part),
        hidden=hidden,
        visual=torch.arange(len(part)),
        origin=torch.arange(len(part)),
        vision_rows=torch.arange(len(part)),
        items=(Item(0, len(part), (part,), video=0),),
        sample=call.case.name,
        note=call.note,
    )
    return StageContext(**{**values, **more})


@adapter
def frames(call: Call) -> Answer:
    """Features of the frames of a video in, indices out."""
    return answer(one_stage(call.build()), video(call))


@adapter
def redundancy(call: Call) -> Answer:
    """VidCom2: its two scores and the numbers of the frames are stored too."""
    from unibench.methods.vidcom2 import frame_counts
    from unibench.methods.vidcom2 import redundancy as scores

    arrays, part = _context.tensors(call.case, call.dtype), part_of(call)
    per_video, per_frame = scores(arrays["features"].unflatten(0, (part.frames, -1)))
    for name, found in (("video_score", per_video), ("frame_score", per_frame)):
        if name in arrays:
            torch.testing.assert_close(found, arrays[name], rtol=1e-4, atol=1e-5)
    counts = frame_counts(per_video, call.case.params["retention"])
    assert counts.tolist() == arrays["counts"].tolist()
    return frames(call)  # type: ignore[return-value]


@adapter
def dissimilarity(call: Call) -> Answer:
    """EVS: how far each token is from the one before is stored too."""
    from unibench.methods.evs import dissimilarity as apart

    arrays, part = _context.tensors(call.case, call.dtype), part_of(call)
    found = apart(arrays["features"].unflatten(0, (part.frames, -1)))
    torch.testing.assert_close(found, arrays["dissimilarity"], rtol=1e-4, atol=1e-5)
    return frames(call)  # type: ignore[return-value]


@adapter
def windows_of_four(call: Call) -> Answer:
    """DyCoke: the default is what the paper describes, which is stored too."""
    plain = answer(one_stage(call.build(variant="default")), video(call))
    assert plain.kept.tolist() == call.case.arrays["kept_paper"].tolist()
    return frames(call)  # type: ignore[return-value]


class Tower:
    """A tower whose attention, one number per patch, is stored; separators have ``fill``."""

    merged = None

    def __init__(self, attention: Tensor, part: Part) -> None:
        self._attention, self._shows_patch = attention.flatten(), ~torch.tensor(part.separators)

    def received(self, layer: int, fill: float = 0.0, **how: Any) -> Tensor:
        found = self._attention.new_full((len(self._shows_patch),), fill)
        found[self._shows_patch] = self._attention
        return found


def attended(call: Call, **more: Any) -> StageContext:
    """As :func:`video`, with ``attention`` of the tower."""
    attention = _context.tensors(call.case, call.dtype)["attention"]
    family = _context.StubFamily(cls=False)
    return video(call, vision=Tower(attention, part_of(call)), family=family, **more)


@adapter
def scenes(call: Call) -> Answer:
    """HoliTom: the scenes are stored too, and the sequence with the newlines of the grid."""
    from torch.nn.functional import cosine_similarity

    from unibench.methods.holitom import HoliTom
    from unibench.methods.holitom import scenes as found_in

    arrays, part, method = _context.tensors(call.case, call.dtype), part_of(call), call.build()
    assert isinstance(method, HoliTom)
    features = arrays["features"].unflatten(0, (part.frames, -1))
    alike = cosine_similarity(features[1:], features[:-1], dim=-1) > method.tau
    found, gone = found_in(alike, method.window)
    assert [[scene.start, scene.stop - 1] for scene in found] == arrays["windows"].tolist()
    assert gone == int(arrays["total_reduced"])
    ctx = attended(call)
    given = answer(one_stage(method), ctx)
    if "sequence" not in arrays:
        return given
    torch.testing.assert_close(given.rows, arrays["sequence"], rtol=1e-4, atol=2e-4)
    shows_patch = ~torch.tensor(part.separators)
    assert given.rows is not None
    patches = shows_patch[given.kept]
    number = shows_patch.cumsum(0) - 1
    return Answer(number[given.kept[patches]], given.rows[patches])


@adapter
def halved(call: Call) -> Answer:
    """HoliTom inside the language model."""
    arrays = _context.tensors(call.case, call.dtype)
    start, stop = span(arrays)
    _, stage = call.build().stages(DEPTH)
    assert stage.layer == call.case.params["k"]
    assert stage.count is not None
    keep = stage.count(stop - start, 10 * stop)
    assert keep == int(arrays["keep"])
    row = arrays["attention_row"][:, None, start:stop]
    ctx = stored(call, stage, arrays["hidden"], start, stop, keep=keep, rows=lambda _: row)
    found = chosen(stage, ctx)
    assert found.values is not None
    torch.testing.assert_close(found.values, arrays["merged"], rtol=1e-4, atol=2e-4)
    return Answer(found.keep, found.values)


@adapter
def pooled(call: Call) -> Answer:
    """FastVID on LLaVA: frames and attention of SigLIP's pooling head.

    Where the grid has newlines, ``kept_patches`` numbers the patches alone.
    """
    arrays, part = _context.tensors(call.case, call.dtype), part_of(call)
    shows_patch = ~torch.tensor(part.separators)
    tile = torch.arange(part.frames).repeat_interleave(len(part) // part.frames)
    looked = torch.zeros(len(part), dtype=call.dtype)
    looked[shows_patch] = arrays["attention"].flatten()
    whole = Pooled(arrays["frame_features"], tile, looked)
    ctx = attended(call, pooling=lambda: whole)
    given = answer(one_stage(call.build()), ctx)
    if "kept_patches" in arrays:
        number = shows_patch.cumsum(0) - 1
        patches = number[given.kept[shows_patch[given.kept]]]
        assert patches.tolist() == arrays["kept_patches"].tolist()
    return given


@adapter
def mean_query(call: Call) -> Answer:
    """FastVID on Qwen2.5-VL: one head of one number, whose attention is the stored one."""
    arrays, part = _context.tensors(call.case, call.dtype), part_of(call)
    means = arrays["features"].unflatten(0, (part.frames, -1)).mean(1)
    torch.testing.assert_close(means, arrays["frame_features"], rtol=1e-4, atol=1e-5)
    tower = Tower(arrays["attention"], part)
    key = arrays["attention"].flatten().log()[:, None, None]
    tower.keys = lambda layer: key  # type: ignore[attr-defined]
    tower.queries = lambda layer: torch.ones_like(key)  # type: ignore[attr-defined]
    return answer(one_stage(call.build()), video(call, vision=tower))


@adapter
def trees(call: Call) -> Answer | None:
    """FlashVID: what is intended is stored beside what the code does.

    The code may send a token twice, picked and as a centre of a cluster; it is then the picked one
    that is compared.
    """
    arrays = _context.tensors(call.case, call.dtype)
    given = answer(one_stage(call.build()), attended(call))
    if "kept_intended" not in arrays:
        return given
    plain = answer(one_stage(call.build(variant="default")), attended(call))
    assert plain.kept.tolist() == arrays["kept_intended"].tolist()
    torch.testing.assert_close(plain.rows, arrays["merged_intended"], rtol=1e-4, atol=2e-4)
    kept, rows, picked = arrays["kept"], arrays["merged"], set(arrays["selected"].tolist())
    twice = {place for place in kept.tolist() if (kept == place).sum() == 2}
    assert twice <= picked
    assert given.kept.tolist() == kept.unique().tolist()
    assert given.rows is not None
    assert call.note.said
    for place, row in zip(given.kept.tolist(), given.rows, strict=True):
        expected = arrays["features"][place] if place in twice else rows[kept == place][0]
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=2e-4)
    assert plain.rows is not None
    assert len(given.kept) != len(plain.kept) or not torch.allclose(given.rows, plain.rows)
    return None


@adapter
def later(call: Call) -> Answer:
    """FlashVID inside the language model."""
    arrays = _context.tensors(call.case, call.dtype)
    start, stop = span(arrays)
    _, stage = call.build().stages(DEPTH)
    assert stage.count is not None
    keep = stage.count(stop - start, 10 * stop)
    assert keep == call.case.keep
    row = arrays["attention_row"][:, None, start:stop]
    ctx = stored(call, stage, arrays["hidden"], start, stop, keep=keep, rows=lambda _: row)
    return Answer(chosen(stage, ctx).keep, None)


@adapter
def merged_frames(call: Call) -> Answer:
    """PruneVid before the language model: segments, static places and sizes are stored too."""
    arrays, part, method = _context.tensors(call.case, call.dtype), part_of(call), call.build()
    ctx = video(call)
    merge, _ = method.stages(DEPTH)
    given = answer(merge, ctx)
    # groups are numbered segment by segment, the static one first
    windows = arrays["window_sizes"].tolist()
    groups = sum(windows) + len(windows)
    sizes = torch.bincount(ctx.memory["group"][given.kept], minlength=groups).tolist()
    for segment, window in enumerate(windows):
        static, *dynamic = sizes[: window + 1]
        assert static == int(arrays["static_sizes"][segment])
        assert sum(dynamic) == int(arrays["dynamic_sizes"][segment])
        sizes = sizes[window + 1 :]
    assert not sizes
    assert part.frames == int(arrays["window_sizes"].sum())
    return given


@adapter
def without_rotation(call: Call) -> Answer:
    """PruneVid inside the language model: the stored queries and keys are not rotated; also what
    is left in the caches.
    """
    arrays, method = _context.tensors(call.case, call.dtype), call.build()
    start, stop = span(arrays)
    group: list[int] = []
    number = 0
    names = ("static_sizes", "dynamic_sizes", "window_sizes")
    for static, dynamic, window in zip(*(arrays[name].tolist() for name in names), strict=True):
        for size in (static, *[dynamic // window] * window):
            group += [number] * size
            number += 1
    query, key = arrays["queries"], arrays["keys"]
    qk = QueryKey(query, key, key.shape[-1] ** -0.5)
    still = torch.ones_like(key[0]), torch.zeros_like(key[0])
    _, stage = method.stages(DEPTH)
    ctx = stored(
        call,
        stage,
        torch.zeros(key.shape[1], 1),
        start,
        stop,
        memory={"group": torch.tensor(group)},
        query_key=lambda layer: qk,
        rotary=lambda layer: still,
    )
    found = chosen(stage, ctx)
    for layer, visible in ((stage.layer - 1, found.keep.tolist()), (stage.layer, None)):
        stays = method.evict(replace(ctx, layer=layer))
        assert (None if stays is None else stays.tolist()) == visible
    return Answer(found.keep, None)


@adapter
def nodes(call: Call) -> Answer:
    """STTM: the nodes of the quad-tree and the number of patches in each row are stored too."""
    from unibench.methods.sttm import STTM

    arrays, part, method = _context.tensors(call.case, call.dtype), part_of(call), call.build()
    assert isinstance(method, STTM)
    frames = arrays["features"].view(part.frames, part.height, part.width, -1)
    tree = method.tree(frames).nodes(method.space)
    frame, top, left, bottom, right = arrays["spatial_boxes"].T
    first = (frame * part.height + top) * part.width + left
    assert tree.first.tolist() == first.tolist()
    assert tree.patches.long().tolist() == ((bottom - top) * (right - left)).tolist()
    rows = tree.rows / tree.patches[:, None] if method.weighted else tree.rows
    torch.testing.assert_close(rows, arrays["spatial_merged"], rtol=1e-4, atol=2e-4)
    return answer(one_stage(method), video(call))


@adapter
def calls(call: Call) -> Answer | None:
    """FrameFusion: every call has states of its own; its bound on the ratio is stored too.

    A stored row of attention becomes one head dimension: the queries are one, the keys its
    logarithm.
    """
    from unibench.methods.framefusion import most_merged

    arrays, given = _context.tensors(call.case, call.dtype), None
    stages = call.build().averaged(28)
    for number in range(call.case.params.get("calls", 1)):
        own = {
            name.removeprefix(f"s{number}_"): array
            for name, array in arrays.items()
            if name.startswith(f"s{number}_")
        }
        visual = (own["patch"] >= 0).nonzero()[:, 0]
        ratios = own["sparsity"].double()
        cost = call.case.params["cost"]
        upper = most_merged(ratios.tolist(), cost, 28)
        torch.testing.assert_close(upper, float(own["upper"]), rtol=1e-5, atol=1e-6)
        memory = {
            "column": own["patch"][visual],
            "ratios": ratios,
            "keep": torch.tensor(0),
            "merged": own["kind"] == 2,
            "done": torch.tensor(False),
        }
        key = own.get("attention_row", torch.ones(1, len(own["hidden"])).to(call.dtype)).log()
        qk = QueryKey(torch.ones_like(key)[..., None], key[..., None], 1.0)
        stage = stages[len(ratios)]
        ctx = StageContext(
            layer=stage.layer,
            keep=len(visual),
            total=len(visual),
            hidden=own["hidden"],
            visual=visual,
            origin=torch.arange(len(own["hidden"])),
            vision_rows=torch.arange(len(visual)),
            note=call.note,
            memory=memory,
            query_key=lambda layer, qk=qk: qk,
        )
        selection = stage.select(ctx)
        keep, values = torch.arange(len(visual)), ctx.visual_hidden
        if selection is not None:
            keep, order = selection.keep.sort()
            values = ctx.visual_hidden[keep]
            if selection.values is not None:
                values = selection.values[order]
        if number == 0:
            given = Answer(visual[keep] - int(own["visual_start"]), values)
            continue
        assert (visual[keep] - int(own["visual_start"])).tolist() == own["kept"].tolist()
        torch.testing.assert_close(values, own["merged"], rtol=1e-4, atol=2e-4)
        assert bool(memory["done"]) == (number == call.case.params["calls"] - 1)
    return given


@adapter
def walks(call: Call) -> Answer | None:
    """AIM inside the language model, on the sequence that each cut shortens."""
    from unibench.methods.aim import importance

    arrays, params = _context.tensors(call.case, call.dtype), call.case.params
    start, stop = span(arrays)
    present = torch.arange(stop - start)
    by_layer = {stage.layer: stage for stage in call.build().stages(params["num_layers"])}
    memory = {"entered": torch.tensor(stop - start)}
    first = None
    for number in range(params["steps"]):
        stage = by_layer[params["first"] + number + 1]
        query, key = arrays[f"s{number}_queries"], arrays[f"s{number}_keys"]
        length = query.shape[1]
        rows = torch.cat([torch.arange(start), present + start, torch.arange(stop, length)])
        qk = QueryKey(query[:, rows], key[:, rows], key.shape[-1] ** -0.5)
        visual = slice(start, start + len(present))
        expected = arrays[f"s{number}_importance_removed"][visual]
        torch.testing.assert_close(
            importance(qk)[visual], expected.float(), rtol=2e-3, atol=1e-7, check_dtype=False
        )
        assert stage.count is not None
        keep = stage.count(1, stop - start)
        ctx = stored(
            call,
            stage,
            torch.zeros(len(rows), 1),
            start,
            start + len(present),
            keep=keep,
            memory=memory,
            query_key=lambda layer, qk=qk: qk,
        )
        present = present[chosen(stage, ctx).keep]
        assert present.tolist() == arrays[f"s{number}_kept_removed"].tolist()
        first = first or Answer(present, None)
    return first


@adapter
def merged_pairs(call: Call) -> Answer:
    """AIM before the language model."""
    merge, *_ = call.build().stages(DEPTH)
    return answer(merge, video(call))


@adapter
def steps(call: Call) -> None:
    """DyCoke while decoding: one row of attention at each step, as the later layers then read."""
    arrays, method = _context.tensors(call.case, call.dtype), call.build()
    start, stop = span(arrays)
    memory: dict[str, Tensor] = {}
    before = None
    for number, rows in enumerate(arrays["attention_rows"]):
        given = rows[:, start:stop]
        mean = given.mean(0)[:-1]
        similarity = (
            0.0 if before is None else torch.nn.functional.cosine_similarity(mean, before, 0)
        )
        torch.testing.assert_close(
            float(similarity), float(arrays["similarity"][number]), rtol=1e-4, atol=1e-5
        )
        before = mean
        ctx = StepContext(
            layer=method.layer - 1,  # type: ignore[attr-defined]
            attention=given,
            vision_rows=torch.arange(stop - start),
            separators=torch.zeros(stop - start, dtype=torch.bool),
            memory=memory,
        )
        read = method.reselect(ctx)
        assert (read is None) == (not arrays["pruned"][number])
        if read is not None:
            *chosen_ones, last = read.sort().values.tolist()
            assert chosen_ones == arrays["kept"][number].tolist()
            assert last == stop - start - 1  # always read
