"""The image methods of 2025 and 2026 keep what slow readings of their specifications keep, in cases
that official code was not run on: ties, one token, everything kept, several pictures, tiles, grids
with odd sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.golden._adapters_images import Words
from tests.golden._context import StubFamily, StubVision
from tests.methods import _plain as plain
from unibench import EncoderContext, Selection, Stage, StageContext
from unibench.api import build_method
from unibench.cost.accounting import processed
from unibench.methods._prior import Prior
from unibench.methods.ficoco_v import FiCoCoV
from unibench.methods.hired import divided
from unibench.methods.v2drop import second_share
from unibench.methods.zoo_prune import ZooPrune
from unibench.ops import top_k
from unibench.pruning import Item, Part, PixelContext
from unibench.pruning.attention import QueryKey

Sizes = Sequence[tuple[int, int]]
WIDTH = 12


def drawn(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Numbers that float32 and float64 agree about: multiples of 2^-10."""
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=g) * scale * 1024).round() / 1024


def attended(seed: int, *shape: int) -> Tensor:
    """Positive scores, all different or nearly so."""
    return drawn(seed, *shape).abs() + 2**-12


def clustered(seed: int, count: int, width: int = WIDTH) -> Tensor:
    """Tokens around a few centres."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.randint(0, 4, (count,), generator=g)
    return 2 * drawn(seed, 4, width)[centre] + drawn(seed + 1, count, width, scale=0.5)


def pictures(*sizes: tuple[int, int]) -> tuple[Item, ...]:
    """Pictures of one grid each."""
    items, start = [], 0
    for height, width in sizes:
        items.append(Item(start, start + height * width, (Part(1, height, width),)))
        start += height * width
    return tuple(items)


@dataclass(frozen=True)
class Stored(StageContext):
    """A context that answers from stored arrays where the engine would look at a decoder layer.

    Attributes:
        rows: ``[heads, 1, N]`` attention of the last prompt token; None asks ``query_key``.
        stored_keys: ``[L, C]``.
    """

    rows: Tensor | None = None
    stored_keys: Tensor | None = None

    def attention(self, layer: int, queries: Tensor | None = None) -> Tensor:
        return super().attention(layer, queries) if self.rows is None else self.rows

    def keys(self, layer: int, rows: Tensor | None = None) -> Tensor:
        assert self.stored_keys is not None
        return self.stored_keys[self.visual if rows is None else rows][None]


def context(
    features: Tensor,
    keep: int,
    *,
    items: tuple[Item, ...] = (),
    layer: int = 0,
    cls: bool = True,
    text: Tensor | None = None,
    before: int = 0,
    **more: Any,
) -> Stored:
    """A context of visual tokens behind ``before`` others, and text behind them."""
    count, text = len(features), features[:0] if text is None else text
    values: dict[str, Any] = dict(
        layer=layer,
        keep=keep,
        total=count,
        hidden=torch.cat([torch.zeros(before, features.shape[1]), features, text]),
        visual=torch.arange(before, before + count),
        origin=torch.arange(before + count + len(text)),
        vision_rows=torch.arange(count),
        items=items,
        family=StubFamily(cls=cls),
        sample="specified",
    )
    return Stored(**{**values, **more})


def selected(stage: Stage, ctx: Stored) -> Selection:
    """What a stage selects, in sequence order; everything where it leaves all."""
    found = stage.select(ctx)
    if found is None:
        return Selection(torch.arange(len(ctx.visual)), ctx.visual_hidden)
    keep, order = found.keep.sort()
    values = ctx.visual_hidden[keep] if found.values is None else found.values[order]
    return Selection(keep, values)


def kept(name: str, ctx: Stored, **options: Any) -> list[int]:
    """What a method with one cut keeps."""
    (stage,) = build_method(name, **options).stages(32)
    tokens: list[int] = selected(stage, ctx).keep.tolist()
    return tokens


def close(found: Tensor, expected: Any, atol: float = 2e-4) -> None:
    wanted = torch.as_tensor(np.asarray(expected)).to(found)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=atol)


# -- hired


@dataclass(frozen=True)
class TwoBlocks(StubVision):
    """Attention of CLS in the first block, and in the one that makes the features."""

    arrays: dict[str, Tensor] = field(default_factory=dict)
    across: int = 0

    def cls(self, layer: int, fill: float = 0.0, **how: Any) -> Tensor:
        return self.arrays["late" if layer == StubFamily.saliency_layer else "early"]

    def tiles_across(self, rows: Tensor, tiles: int) -> int:
        return self.across


def stitched(side: int, rows: Sequence[int], columns: Sequence[int], shape: tuple[int, int]) -> Any:
    """An overview of ``side`` x ``side`` and tiles stitched to a grid, cut at ``rows`` and
    ``columns``: the parts, and what the reference reads.
    """
    height, width = shape
    parts = (
        Part(1, side, side, overview=True),
        Part(1, height, width, "", False, tuple(rows), tuple(columns)),
    )
    down, across = [*rows, height], [*columns, width]
    tiles = [
        [
            side * side + y * width + x
            for y in range(down[r], down[r + 1])
            for x in range(across[c], across[c + 1])
        ]
        for r in range(len(rows))
        for c in range(len(columns))
    ]
    return parts, (list(range(side**2)), tiles, (side, side), (len(rows), len(columns)))


HIRED = {
    "two by two tiles": stitched(6, (0, 6), (0, 6), (12, 12)),
    "unpadded, of odd sides": stitched(6, (0, 3), (0, 6, 12), (9, 17)),
    "one row of tiles": stitched(5, (0,), (0, 5, 10), (5, 15)),
    "a tile of two columns": stitched(6, (0, 6), (0, 2), (12, 8)),
}


@pytest.mark.parametrize("content", ["count", "sum"])
@pytest.mark.parametrize("layout", HIRED)
def test_hired_shares_its_budget_by_the_regions_that_tiles_show(layout: str, content: str) -> None:
    parts, told = HIRED[layout]
    total = len(told[0]) + sum(map(len, told[1]))
    early, late = attended(1, total), attended(2, total)
    for keep in (1, 2, 7, total // 3, total - 1, total):
        for alpha in (0.0, 0.3, 0.5, 1.0):
            ctx = context(
                drawn(3, total, 4),
                keep,
                items=(Item(0, total, parts),),
                vision=TwoBlocks({"early": early, "late": late}),
            )
            expected = plain.hired(early.numpy(), late.numpy(), [told], keep, alpha, content)
            assert kept("hired", ctx, alpha=alpha, content=content) == expected
            assert len(expected) == keep


def test_hired_with_equal_attention_takes_the_first_tokens_of_each_part() -> None:
    parts, told = HIRED["two by two tiles"]
    total, even = 180, torch.ones(180)
    ctx = context(
        drawn(3, total, 4),
        41,
        items=(Item(0, total, parts),),
        vision=TwoBlocks({"early": even, "late": even}),
    )
    expected = plain.hired(even.numpy(), even.numpy(), [told], 41)
    assert kept("hired", ctx) == expected and expected[:20] == list(range(20))


def test_hired_divides_pictures_by_size_and_ranks_what_is_not_tiled_by_late_attention() -> None:
    parts, (overview, tiles, shape, grid) = HIRED["one row of tiles"]
    first, last = 100, 21
    items = (Item(0, first, parts), *pictures((3, 7)))
    items = (items[0], replace(items[1], start=first, stop=first + last))
    early, late = attended(4, first + last), attended(5, first + last)
    told = [
        (overview, tiles, shape, grid),
        (list(range(first, first + last)), [], (3, 7), (0, 0)),
    ]
    for keep in (1, 13, 60, 121):
        ctx = context(
            drawn(6, first + last, 4),
            keep,
            items=items,
            vision=TwoBlocks({"early": early, "late": late}),
        )
        assert kept("hired", ctx) == plain.hired(early.numpy(), late.numpy(), told, keep)


def test_equal_remainders_of_a_division_go_to_the_first() -> None:
    # in floating point 12 / 9 has a smaller remainder than 3 / 9
    assert divided(3, [4.0, 1.0, 4.0], [9, 9, 9]) == [2, 0, 1]


# -- prunesid


@pytest.mark.parametrize("variant", ["default", "official", "qwen"])
@pytest.mark.parametrize(
    ("count", "keep"), [(35, 9), (35, 3), (35, 1), (35, 34), (35, 35), (1, 1), (150, 70), (64, 33)]
)
def test_prunesid_groups_suppresses_and_shares(count: int, keep: int, variant: str) -> None:
    # wide enough for as many components as there are groups
    features, score = clustered(count + keep, count, 40), attended(keep, count)
    vision = StubVision({"features": features, "cls_attention": score})
    ctx = context(features, keep, vision=vision)
    if variant == "official" and keep + 1 > count:
        pytest.skip("asks for more than there is")
    found = kept("prunesid", ctx, variant=variant)
    own = None if variant == "qwen" else score.double().numpy()
    assert found == plain.prunesid(features.double().numpy(), own, keep, variant == "official")
    assert len(found) == keep


def test_prunesid_without_a_cls_token_follows_the_qwen_port_and_says_so() -> None:
    features, said = clustered(7, 40), list[str]()
    ctx = context(features, 12, cls=False, vision=StubVision({}), note=said.append)
    assert kept("prunesid", ctx) == plain.prunesid(features.double().numpy(), None, 12)
    assert any("loadings" in text for text in said)


def test_prunesid_takes_the_first_of_tokens_that_score_the_same() -> None:
    features, even = clustered(3, 48), torch.ones(48)
    vision = StubVision({"features": features, "cls_attention": even})
    expected = plain.prunesid(features.double().numpy(), even.numpy(), 16)
    assert kept("prunesid", context(features, 16, vision=vision)) == expected


# -- v2drop


def left_by_v2drop(states: Tensor, stages: Sequence[Stage], keep: int) -> list[list[int]]:
    """Tokens that each cut leaves, of states ``[layers, N, D]`` that enter each layer."""
    present, memory, found = torch.arange(states.shape[1]), {}, []
    for stage in stages:
        assert stage.count is not None
        ctx = context(
            states[stage.layer][present],
            min(stage.count(keep, states.shape[1]), len(present)),
            layer=stage.layer,
            vision_rows=present,
            total=states.shape[1],
            memory=memory,
        )
        chosen = stage.select(ctx)
        present = present if chosen is None else present[chosen.keep.sort().values]
        if len(found) < stages.index(stage) // 2 + stages.index(stage) % 2:
            found.append(present.tolist())
    return found


@pytest.mark.parametrize(
    ("count", "layers", "retentions"),
    [
        (49, (3, 17, 22), (0.5, 0.3, 0.0)),
        (36, (1, 2, 3), (0.28, 0.25, 0.0)),  # cuts at adjacent layers
        (1, (3, 17, 22), (0.05, 0.05, 0.0)),
        (20, (2, 5), (1.0, 0.5)),
        (35, (4,), (0.0,)),
    ],
)
def test_v2drop_cuts_shares_of_what_is_present(
    count: int, layers: tuple[int, ...], retentions: tuple[float, ...]
) -> None:
    states = drawn(count, 24, count, 8)
    stages = build_method("v2drop", layers=layers, retentions=retentions).stages(32)
    numbers, left = [], count
    for share in retentions:
        left = max(1, int(left * share))
        numbers.append(left)
    found = left_by_v2drop(states, stages, count)
    assert found == plain.v2drop(states.double().numpy(), layers, numbers)


def test_v2drop_keeps_the_first_of_tokens_that_moved_as_far() -> None:
    states = torch.arange(24.0)[:, None, None].expand(24, 30, 4).contiguous()
    stages = build_method("v2drop").stages(32)
    found = left_by_v2drop(states, stages, 4)
    assert [len(part) for part in found] == [15, 8, 4]  # 30 (4/30)^(j/3)
    assert found[-1] == [0, 1, 2, 3]


@pytest.mark.parametrize(("label", "first"), [(192, 0.5), (128, 0.28), (64, 0.05)])
def test_the_labels_of_v2drop_are_means_over_the_layers(label: int, first: float) -> None:
    stages = build_method("v2drop").averaged(32)
    counts = processed(stages, label, 576, 32)
    assert sum(counts) / 32 == pytest.approx(label, abs=1)
    assert counts[-1] == 1
    assert counts[17] == max(1, int(counts[3] * second_share(counts[3] / 576)))
    assert counts[3] / 576 == pytest.approx(first, abs=0.02)


# -- mmtok


@pytest.mark.parametrize(
    ("count", "words", "keep", "barred"),
    [(35, 4, 9, ()), (35, 0, 9, ()), (1, 2, 1, ()), (30, 3, 30, ()), (36, 2, 12, (0, 1, 2, 33))],
)
@pytest.mark.parametrize("clip", [True, False])
def test_mmtok_covers_words_and_tokens(
    count: int, words: int, keep: int, barred: tuple[int, ...], clip: bool
) -> None:
    tokens, states, text = clustered(1, count), clustered(9, count, 7), drawn(5, words, WIDTH)
    padded = torch.zeros(count, dtype=torch.bool)
    padded[list(barred)] = True
    family = StubFamily(cls=clip)
    family.provides = frozenset({"clip_tower"} if clip else ())  # type: ignore[misc]
    family.has_words = False  # type: ignore[attr-defined]
    ctx = context(
        tokens,
        keep,
        text=text,
        family=family,
        vision=StubVision({"features": states}),
        padded=padded if barred else None,
    )
    expected = plain.mmtok(
        tokens.double().numpy(),
        states.double().numpy(),
        text.double().numpy(),
        keep,
        text_temperature=0.02 if clip else 0.01,
        barred=barred,
    )
    assert kept("mmtok", ctx) == expected and len(expected) == keep


def test_mmtok_picks_the_first_of_equal_tokens_and_the_lowest_once_all_is_covered() -> None:
    tokens, states = clustered(1, 6).repeat(3, 1), clustered(9, 6, 7).repeat(3, 1)
    text = drawn(5, 2, WIDTH)
    family = StubFamily(cls=True)
    family.has_words = False  # type: ignore[attr-defined]
    vision = StubVision({"features": states})
    found = kept("mmtok", context(tokens, 8, text=text, family=family, vision=vision))
    assert found == list(range(8))  # six different ones, then the lowest that are left


# -- vscan


class Shallow(StubFamily):
    """A family that names its shallow block."""

    local_layer = 5


def scanned(shallow: Tensor, deep: Tensor, rows: Tensor, items: Any, keep: int, **options: Any):
    vision = StubVision({"shallow_scores": shallow, "deep_scores": deep})
    seen = replace_cls(vision)
    ctx = context(rows, keep, items=items, family=Shallow(cls=True), vision=seen)
    scan, _ = build_method("vscan", **options).stages(32)
    return scan.select(ctx), ctx


def replace_cls(vision: StubVision) -> StubVision:
    """The same signals as attention of CLS."""

    class AsCls(StubVision):
        def cls(self, layer: int, fill: float = 0.0, **how: Any) -> Tensor:
            return self.received(layer)

    return AsCls(vision.arrays)


@pytest.mark.parametrize("variant", ["default", "official_bug"])
@pytest.mark.parametrize(
    ("sizes", "keep"),
    [
        (((24, 24),), 70),
        (((24, 24),), 9),  # fewer than two for each window
        (((7, 5),), 12),
        (((3, 9),), 11),  # one window
        (((9, 10), (4, 6)), 31),
        (((5, 4),), 1),
        (((6, 7),), 41),
    ],
)
def test_vscan_serves_windows_and_merges_the_rest(sizes: Sizes, keep: int, variant: str) -> None:
    count = sum(height * width for height, width in sizes)
    shallow, deep, rows = attended(1, count), attended(2, count), clustered(3, count)
    found, _ = scanned(shallow, deep, rows, pictures(*sizes), keep, variant=variant)
    assert found is not None and found.values is not None and found.members is not None
    expected, means, groups = plain.vscan(
        shallow.numpy(), deep.numpy(), rows.double().numpy(), sizes, keep, variant != "default"
    )
    order = found.keep.argsort()
    assert found.keep[order].tolist() == expected
    assert variant != "default" or len(expected) == keep
    close(found.values[order], means)
    into, given = found.members()
    told = {int(token): sorted(given[into == row].tolist()) for row, token in enumerate(found.keep)}
    assert told == {token: sorted(members) for token, members in groups.items()}


def test_vscan_takes_the_first_of_tokens_that_are_looked_at_alike() -> None:
    rows = clustered(3, 48)
    found, _ = scanned(torch.ones(48), torch.ones(48), rows, pictures((6, 8)), 10)
    expected, means, _ = plain.vscan(
        np.ones(48), np.ones(48), rows.double().numpy(), ((6, 8),), 10, False
    )
    assert found is not None and found.keep.tolist() == expected
    close(found.values, means)  # type: ignore[arg-type]


def heads(seed: int, number: int, length: int) -> Tensor:
    return drawn(seed, number, length, 4)


@pytest.mark.parametrize("variant", ["default", "qwen"])
def test_vscan_cuts_by_what_the_last_prompt_token_reads(variant: str) -> None:
    before, count, length = 3, 20, 30
    query, key = heads(1, 4, length), heads(2, 2, length)
    qk = QueryKey(query, key, 0.5)
    family = Shallow(cls=True)
    family.unrotated = lambda layer, hidden: QueryKey(query[None], key[None], 0.5)  # type: ignore[attr-defined]
    _, cut = build_method("vscan", variant=variant).stages(32)
    assert cut.layer == 16
    scores = plain.attention(query.double().numpy(), key.double().numpy(), [length - 1])
    for keep in (1, 7, 19):
        ctx = context(
            torch.zeros(count, 4),
            keep,
            text=torch.zeros(length - before - count, 4),
            before=before,
            layer=16,
            family=family,
            query_key=lambda layer: qk,
        )
        expected = plain.highest(scores.mean((0, 1))[before : before + count], keep)
        assert selected(cut, ctx).keep.tolist() == expected
    at_stage = [stage.count(10, 100) for stage in build_method("vscan").stages(32)]  # type: ignore[misc]
    averaged = [stage.count(64, 576) for stage in build_method("vscan").averaged(32)]  # type: ignore[misc]
    assert (at_stage, averaged) == ([30, 10], [96, 32])


# -- d2pruner


@pytest.mark.parametrize(
    ("sizes", "keep", "spread"),
    [
        (((6, 6),), 10, 0.5),
        (((5, 7),), 34, 0.1),  # all alike: the set ends early and is filled
        (((5, 7),), 35, 0.5),
        (((1, 1),), 1, 0.5),
        (((4, 4), (3, 5)), 9, 0.5),
        (((6, 6),), 1, 0.5),
    ],
)
def test_d2pruner_adds_an_independent_set_to_its_pivots(
    sizes: Sizes, keep: int, spread: float, tmp_path: Any
) -> None:
    count = sum(height * width for height, width in sizes)
    looked_at, grid = attended(1, count), attended(2, 6, 6)
    g = torch.Generator().manual_seed(5)
    states = drawn(3, 5, WIDTH)[torch.randint(0, 5, (count,), generator=g)]
    states = states + drawn(4, count, WIDTH, scale=spread)
    Prior({(6, 6): grid}).save(tmp_path / "prior.safetensors")
    ctx = context(
        states,
        keep,
        layer=2,
        items=pictures(*sizes),
        rows=looked_at[None, None],
    )
    prior = np.concatenate(
        [plain.resampled(grid.double().numpy(), *size).flatten() for size in sizes]
    )
    found = kept("d2pruner", ctx, prior=str(tmp_path / "prior.safetensors"))
    expected = plain.d2pruner(looked_at.double().numpy(), prior, states.double().numpy(), keep)
    assert found == expected and len(found) == keep


# -- ficoco_v


@pytest.mark.parametrize(
    ("side", "blocks", "keep", "r"),
    [(6, 7, 12, None), (5, 5, 6, None), (7, 9, 40, None), (6, 5, 1, 3), (4, 3, 1, None)],
)
def test_ficoco_v_merges_block_by_block(side: int, blocks: int, keep: int, r: int | None) -> None:
    method, count = FiCoCoV(r=r), side**2
    place, memory, left = list(range(count)), {}, []
    stages = method.encoder(blocks)
    first = (blocks + 1) // 2
    assert [stage.block for stage in stages] == list(range(first, blocks))
    for number, stage in enumerate(stages):
        present = len(place)
        query, key = drawn(number, present + 1, 2, 4), drawn(number + 50, present + 1, 2, 4)
        ctx = EncoderContext(
            block=stage.block,
            blocks=blocks,
            tokens=drawn(number + 90, present + 1, 8),
            keys=key,
            size=torch.ones(present + 1),
            prefix=1,
            side=side,
            keep=keep,
            queries=query,
            scaling=0.5,
            anchor=torch.tensor([0, *(at + 1 for at in place)]),
            memory=memory,
        )
        logits = np.einsum("ihd,jhd->ij", query.double().numpy(), key.double().numpy()) / 4
        share, more = divmod(count - keep, blocks - first)
        going = min(share + (number < more) if r is None else r, present - 1)
        match = stage.merge(ctx)
        if not going:
            assert match is None
            continue
        kept, weights = plain.ficoco(logits, place, side, going, 0.35, 0.998)
        assert match is not None and match.weights is not None
        assert (match.anchor[1:] - 1).tolist() == kept
        close(match.weights, weights)
        place = [place[i] for i in kept]
        left.append(len(place))
    assert left[-1] == (keep if r is None else max(1, count - r * len(stages)))


def test_ficoco_v_discards_the_first_of_patches_that_are_as_redundant() -> None:
    tokens = torch.ones(17, 1, 4)
    ctx = EncoderContext(
        block=2,
        blocks=3,
        tokens=drawn(1, 17, 8),
        keys=tokens,
        size=torch.ones(17),
        prefix=1,
        side=4,
        keep=12,
        queries=tokens,
        scaling=0.5,
        anchor=torch.arange(17),
    )
    (stage,) = FiCoCoV().encoder(3)
    match = stage.merge(ctx)
    assert match is not None
    expected, _ = plain.ficoco(np.full((17, 17), 2.0), range(16), 4, 4, 0.35, 0.998)
    # the first of each window of two by two
    assert (match.anchor[1:] - 1).tolist() == expected
    assert sorted({*range(16)} - {*expected}) == [0, 2, 8, 10]


# -- visiontrim


@dataclass(frozen=True)
class Trimmed(StubVision):
    """Attention of CLS, and of the other patches."""

    def received(self, layer: int, fill: float = 0.0, **how: Any) -> Tensor:
        # what is recorded excludes the token itself and CLS where a method asks for it
        assert how.get("others") is True
        return self.arrays["received"]


@pytest.mark.parametrize("variant", ["released", "ltam"])
@pytest.mark.parametrize(
    ("sizes", "keep"),
    [(((6, 6),), 12), (((5, 7),), 3), (((1, 1),), 1), (((4, 5), (3, 3)), 13), (((5, 5),), 25)],
)
def test_visiontrim_adds_clusters_to_its_centres(sizes: Sizes, keep: int, variant: str) -> None:
    count = sum(height * width for height, width in sizes)
    features, words = clustered(1, count, 10), drawn(2, 5, 6)
    words = words / words.norm(dim=1, keepdim=True)
    weight, seen, received = drawn(3, 6, 10), attended(4, count), attended(5, count)
    family = StubFamily(cls=True)
    family.clip = lambda: Words(words, weight)  # type: ignore[attr-defined]
    ctx = context(
        features,
        keep,
        items=pictures(*sizes),
        family=family,
        vision=Trimmed({"features": features, "cls_attention": seen, "received": received}),
        input_ids=torch.arange(count),
    )
    wide = features.double().numpy()
    metric = None
    if variant == "ltam" and count > 1:  # one token has no variance
        near = plain.local_affinity(wide, sizes)
        metric = plain.adaptive_mix(seen.double().numpy(), near)
    expected, rows = plain.visiontrim(
        seen.double().numpy(),
        received.double().numpy(),
        wide,
        words.double().numpy(),
        lambda states: states @ weight.double().numpy().T,
        keep,
        metric,
    )
    (stage,) = build_method("visiontrim", variant=variant).stages(32)
    found = selected(stage, ctx)
    assert found.keep.tolist() == expected and len(expected) == keep
    assert found.values is not None
    close(found.values, [rows.get(token, wide[token]) for token in expected])


def test_visiontrim_without_clip_or_cls_compares_embeddings_and_says_so() -> None:
    features, text, said = clustered(1, 30), drawn(2, 4, WIDTH), list[str]()
    received = attended(5, 30)
    family = StubFamily(cls=False)
    family.clip = None  # type: ignore[attr-defined]
    vision = Trimmed({"features": features, "received": received, "cls_attention": received})
    ctx = context(
        features,
        11,
        text=text,
        family=family,
        vision=vision,
        note=said.append,
        items=pictures((5, 6)),
    )
    words = text.double().numpy()
    expected, _ = plain.visiontrim(
        None, received.double().numpy(), features.double().numpy(), plain.unit(words), np.array, 11
    )
    assert kept("visiontrim", ctx) == expected
    assert any("adapted" in remark for remark in said)


# -- pact


class Unturned(StubFamily):
    """A family whose next layer makes stored queries and keys."""

    def __init__(self, qk: QueryKey) -> None:
        super().__init__(cls=False)
        self.qk = qk

    def unrotated(self, layer: int, hidden: Tensor) -> QueryKey:
        return QueryKey(self.qk.query[None], self.qk.key[None], self.qk.scaling)


def crowded(count: int, keep: int, **more: Any) -> tuple[Stored, Any, Any, Any]:
    """A context in front of layer 4; the score, keys and states of its visual tokens."""
    before, behind = 3, 5
    length = before + count + behind
    query, key = heads(1, 4, length), heads(2, 2, length)
    turned = torch.cat([drawn(8, before, 8), clustered(6, count, 8), drawn(9, behind, 8)])
    states = clustered(4, count)
    ctx = context(
        states,
        keep,
        text=drawn(5, behind, WIDTH),
        before=before,
        layer=4,
        family=Unturned(QueryKey(query, key, 0.5)),
        query_key=lambda layer: None,
        stored_keys=turned,
        **more,
    )
    rows = before + count  # nothing behind the last visual token
    mean = query[:, :rows].double().numpy().mean(1, keepdims=True)
    seen = plain.attention(mean, key[:, :rows].double().numpy(), [0], causal=False).mean((0, 1))
    wide = states.double().numpy()
    score = seen[before:] * np.linalg.norm(wide, axis=1)
    return ctx, score, turned[before : before + count].double().numpy(), wide


def check_groups(found: Selection, ctx: Stored, centres: list[int], groups: Any, wide: Any) -> None:
    """The tokens kept, their means and how many each stands for are as expected."""
    assert found.values is not None and found.sizes is not None
    keep, order = found.keep.sort()
    assert keep.tolist() == centres
    close(found.values[order], [wide[groups[token]].mean(0) for token in centres])
    assert found.sizes[order].tolist() == [len(groups[token]) for token in centres]


@pytest.mark.parametrize(
    ("count", "cutoff", "share"),
    [(40, 0.21, 0.55), (40, 0.1, 0.8), (40, 0.0, 1.0), (1, 0.21, 0.55), (35, 2.0, 0.3)],
)
def test_pact_merges_within_its_cutoff(count: int, cutoff: float, share: float) -> None:
    ctx, score, keys, wide = crowded(count, count)
    centres, groups = plain.pact(score, keys, wide, share, cutoff)
    (stage,) = build_method("pact", cutoff=cutoff, share=share).stages(32)
    found = stage.select(ctx)
    assert stage.layer == 4 and found is not None
    check_groups(found, ctx, centres, groups, wide)


@pytest.mark.parametrize(("count", "keep"), [(40, 7), (40, 1), (40, 39), (33, 20)])
def test_pact_meets_a_budget(count: int, keep: int) -> None:
    ctx, score, keys, wide = crowded(count, keep)
    centres, groups = plain.pact_to(score, keys, wide, keep)
    (stage,) = build_method("pact").stages(32)
    found = stage.select(ctx)
    assert found is not None and len(centres) == keep
    check_groups(found, ctx, centres, groups, wide)


def test_pact_leaves_a_prompt_whose_tokens_are_all_kept() -> None:
    ctx, *_ = crowded(12, 12)
    assert kept("pact", ctx) == list(range(12))


# -- zoo_prune


@pytest.mark.parametrize(("count", "keep"), [(35, 9), (35, 35), (1, 1), (30, 1), (24, 23)])
def test_zoo_prune_weighs_distance_by_sensitivity(count: int, keep: int) -> None:
    first, last = nn.Linear(WIDTH, 16), nn.Linear(16, 9)
    for number, layer in enumerate((first, last)):
        layer.weight = nn.Parameter(drawn(number, *layer.weight.shape))
        layer.bias = nn.Parameter(drawn(number + 9, len(layer.bias)))
        layer.requires_grad_(False)
    entered, pushes = clustered(4, count), drawn(6, 5, WIDTH)
    pushes = pushes / pushes.norm(dim=1, keepdim=True)

    def projector(rows: Any) -> Any:
        inner = rows @ first.weight.double().numpy().T + first.bias.double().numpy()
        gelu = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        return gelu @ last.weight.double().numpy().T + last.bias.double().numpy()

    class Told(ZooPrune):
        """The method, told its directions."""

        def pushes(self, ctx: Any, width: int) -> Tensor:
            return pushes

    class Entering(StubVision):
        def projector_input(self) -> Tensor:
            return entered

    family = StubFamily(cls=True)
    family.projector = (first, nn.GELU(), last)  # type: ignore[attr-defined]
    wide = entered.double().numpy()
    projected = projector(wide)
    ctx = context(torch.from_numpy(projected).float(), keep, family=family, vision=Entering({}))
    score = plain.sensitivity(wide, pushes.double().numpy(), projector, 0.01)
    assert sorted(Told().select(ctx).keep.tolist()) == plain.zoo_prune(score, projected, keep)


# -- duet


@pytest.mark.parametrize(
    ("count", "keep", "options"),
    [
        (49, 16, {}),
        (49, 16, {"contextual": 4, "width": 1}),
        (35, 20, {"contextual": 5, "width": 4}),  # fewer left than are looked at
        (30, 30, {"contextual": 3}),
        (1, 1, {}),
        (40, 9, {"contextual": 9}),
    ],
)
def test_duet_looks_at_the_next_best_for_its_anchors(
    count: int, keep: int, options: dict[str, int]
) -> None:
    features, keys, looks = clustered(1, count), clustered(2, count, 6), attended(3, count)
    vision = StubVision({"features": features, "keys": keys, "cls_attention": looks})
    ctx = context(features, keep, vision=vision)
    sums = options.get("contextual", max(1, round(keep * 7 / 307)))
    expected, rows, groups = plain.duet(
        looks.numpy(), keys.double().numpy(), features.double().numpy(), keep, sums,
        options.get("width", 4),
    )  # fmt: skip
    (stage,) = build_method("duet", **options).stages(32)
    found = stage.select(ctx)
    assert found is not None and found.values is not None and found.members is not None
    order = found.keep.argsort()
    assert found.keep[order].tolist() == expected and len(expected) == keep
    wide = features.double().numpy()
    close(found.values[order], [rows.get(token, wide[token]) for token in expected])
    into, given = found.members()
    told = {int(found.keep[row]): sorted(given[into == row].tolist()) for row in into.unique()}
    assert told == {anchor: sorted(members) for anchor, members in groups.items()}


@pytest.mark.parametrize("queries", ["text", "question"])
@pytest.mark.parametrize("ratios", [(0.5, 0.0), (0.5, 0.25), (0.34, 0.33)])
def test_duet_cuts_shares_of_what_entered(ratios: tuple[float, float], queries: str) -> None:
    before, count, behind = 2, 21, 6
    length = before + count + behind
    cuts = build_method("duet", ratios=ratios, queries=queries).stages(32)[1:]
    assert [stage.layer for stage in cuts] == [16, 24]
    present, scores, found = list(range(count)), [], []
    for number, stage in enumerate(cuts):
        rows = [*range(before), *(before + i for i in present), *range(before + count, length)]
        query, key = heads(number, 4, length)[:, rows], heads(number + 7, 2, length)[:, rows]
        qk = QueryKey(query, key, 0.5)
        assert stage.count is not None
        ctx = context(
            torch.zeros(len(present), 4),
            stage.count(count, count),
            text=torch.zeros(behind, 4),
            before=before,
            layer=stage.layer,
            query_key=lambda layer, qk=qk: qk,
            margins=(2, 1) if queries == "question" else (0, 0),
            vision_rows=torch.tensor(present),
        )
        asking = range(before + len(present), len(rows))
        asking = asking[2:-1] if queries == "question" else asking
        seen = plain.attention(query.double().numpy(), key.double().numpy(), asking).mean((0, 1))
        score = np.zeros(count)
        score[present] = seen[before : before + len(present)]
        scores.append(score)
        chosen = selected(stage, ctx).keep if ctx.keep else torch.arange(0)
        present = [present[i] for i in chosen.tolist()]
        found.append(present)
    assert found == plain.duet_cuts(scores, count, ratios)


def test_the_label_192_of_duet_is_its_mean_over_the_layers() -> None:
    stages = build_method("duet").averaged(32)
    counts = processed(stages, 192, 576, 32)
    assert counts[0] == pytest.approx(307, abs=1) and counts[16] == counts[0] // 2
    assert counts[24] == 0 and sum(counts) / 32 == pytest.approx(192, abs=1)


# -- pixelprune


def screen(seed: int, height: int, width: int, levels: int = 3, noise: float = 0.0) -> Tensor:
    """Flat areas, some with a little noise."""
    g = torch.Generator().manual_seed(seed)
    colour = torch.randint(0, levels, (height, width, 1), generator=g) / levels
    where = torch.rand(height, width, 1, generator=g) < 0.5
    return (colour + noise * where * torch.rand(height, width, 12, generator=g)).expand(-1, -1, 12)


@pytest.mark.parametrize("metric", ["max", "mae", "rmse"])
@pytest.mark.parametrize("order", ["pred_2d", "raster", "serpentine"])
@pytest.mark.parametrize(
    ("height", "width", "tau", "anchored"),
    [
        (7, 9, 0.0, True),
        (6, 5, 0.05, True),
        (6, 5, 0.05, False),
        (1, 8, 0.02, True),
        (8, 1, 0.0, True),
    ],
)
def test_pixelprune_keeps_what_no_neighbour_predicts(
    height: int, width: int, tau: float, anchored: bool, order: str, metric: str
) -> None:
    picture = screen(height, height, width, noise=0.09 if tau else 0.0).contiguous()
    method: Any = build_method(
        "pixelprune", order=order, metric=metric, threshold=tau, anchored=anchored
    )
    found = method.pixels(PixelContext(picture.flatten(0, 1), height, width))
    expected = plain.pixelprune(
        picture.numpy(), metric, tau, anchored, "" if order == "pred_2d" else order
    )
    assert found.nonzero()[:, 0].tolist() == expected


def test_pixelprune_leaves_one_token_of_a_blank_page_and_all_of_a_photograph() -> None:
    method: Any = build_method("pixelprune")
    blank = method.pixels(PixelContext(torch.zeros(20, 12), 4, 5))
    photograph = method.pixels(PixelContext(torch.rand(20, 12), 4, 5))
    one = method.pixels(PixelContext(torch.rand(1, 12), 1, 1))
    assert blank.nonzero()[:, 0].tolist() == [0]
    assert bool(photograph.all()) and bool(one.all())


def test_the_slow_readings_break_ties_as_the_methods_do() -> None:
    score = torch.tensor([1.0, 3.0, 3.0, 2.0, 3.0])
    read: Callable[..., list[int]] = plain.highest
    assert read(score.numpy(), 2) == top_k(score, 2).sort().values.tolist() == [1, 2]
