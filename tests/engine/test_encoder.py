"""Merging inside the vision tower equals the tower computed by hand."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.support.methods import Look, Unbudgeted
from tests.support.models import collate, generate, inputs_of, model_of
from unibench import EncoderContext, EncoderStage, Method, Needs, Stage, StageContext
from unibench.methods.ficoco_v import FiCoCoV, pushed_by_place, redundancy, shared_out
from unibench.methods.mustdrop_vit import MustDropVit
from unibench.methods.tome import ToMe, per_block
from unibench.ops import Matching, bipartite

ATTN = ["sdpa", "eager"]
HEADS, PREFIX, SIDE, BLOCKS = (
    2,
    1,
    4,
    2,
)  # of the tiny CLIP tower; vision_feature_layer -2 reads two of its three blocks


def tower_by_hand(model: Any, pixels: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """ToMe in its published order: attention weighed by sizes, merge, feed-forward. Returns rows
    and their anchors.
    """
    tower = model.model.vision_tower
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))[0]
    size, anchor = torch.ones(len(hidden)), torch.arange(len(hidden))
    for index, block in enumerate(tower.encoder.layers[:BLOCKS]):
        attention, normed = block.self_attn, block.layer_norm1(hidden)
        q, k, v = (
            projection(normed).unflatten(-1, (HEADS, -1)).transpose(0, 1)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + size.log()
        hidden = hidden + attention.out_proj((logits.softmax(-1) @ v).transpose(0, 1).flatten(1))
        merges = min(per_block(SIDE**2, keep, BLOCKS)[index], (len(hidden) - PREFIX) // 2)
        match = bipartite(k.mean(0), merges, protect_first=True)
        rows, sizes = (
            torch.zeros(len(match.anchor), hidden.shape[1]),
            torch.zeros(len(match.anchor)),
        )
        for token, row in enumerate(match.slot.tolist()):
            rows[row] += size[token] * hidden[token]
            sizes[row] += size[token]
        hidden, size, anchor = rows / sizes[:, None], sizes, anchor[match.anchor]
        hidden = hidden + block.mlp(block.layer_norm2(hidden))
    return model.model.multi_modal_projector(hidden[None, PREFIX:])[0], anchor[PREFIX:] - PREFIX


@pytest.mark.parametrize("attn", ATTN)
@pytest.mark.parametrize("keep", [12, 8, 5, 4])
def test_tome_inside_the_tower_equals_the_tower_by_hand(attn: str, keep: int) -> None:
    model, inputs = model_of("llava", attn), inputs_of("llava")
    with torch.no_grad():
        rows, anchors = tower_by_hand(model, inputs["pixel_values"], keep)
    embeds: list[Tensor] = []
    with unibench.prune(model, ToMe(), keep=keep) as session, torch.no_grad():
        probe = model.model.language_model.layers[0].register_forward_pre_hook(
            lambda module, args: embeds.append(args[0].clone())
        )
        model(**copy.deepcopy(inputs))
        probe.remove()
    assert session.prompt is not None
    start = int((inputs["input_ids"][0] == 190).nonzero()[0])
    kept = session.prompt.segments[0].origin[0]
    visual = kept[(kept >= start) & (kept < start + SIDE**2)] - start
    assert visual.tolist() == sorted(anchors.tolist())
    found = embeds[-1][0, (kept >= start) & (kept < start + SIDE**2)]
    torch.testing.assert_close(found, rows[anchors.argsort()], atol=1e-4, rtol=1e-4)
    assert not session.notes


def compressed_by_hand(model: Any, pixels: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
    """FiCoCo in the published order, from the first block on: attention, merge, feed-forward.
    Returns rows and their places.
    """
    tower = model.model.vision_tower
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))[0]
    anchor = torch.arange(len(hidden))
    for block, number in zip(tower.encoder.layers[:BLOCKS], numbers, strict=True):
        attention, normed = block.self_attn, block.layer_norm1(hidden)
        q, k, v = (
            projection(normed).unflatten(-1, (HEADS, -1)).transpose(0, 1)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        hidden = hidden + attention.out_proj((logits.softmax(-1) @ v).transpose(0, 1).flatten(1))
        mean = logits.mean(0)
        score = pushed_by_place(redundancy(mean, 0.35), anchor[PREFIX:] - PREFIX, SIDE)
        match = shared_out(mean, score, number, 0.998)
        assert match.weights is not None
        rows = []
        for weights, own in zip(match.weights, match.anchor.tolist(), strict=True):
            given = {i: float(weight / weights[own]) for i, weight in enumerate(weights) if weight}
            rows.append(
                sum(hidden[i] * weight for i, weight in given.items()) / sum(given.values())
            )
        hidden, anchor = torch.stack(rows), anchor[match.anchor]
        hidden = hidden + block.mlp(block.layer_norm2(hidden))
    return model.model.multi_modal_projector(hidden[None, PREFIX:])[0], anchor[PREFIX:] - PREFIX


@pytest.mark.parametrize("attn", ATTN)
@pytest.mark.parametrize("keep", [13, 6, 1])
def test_ficoco_inside_the_tower_equals_the_tower_by_hand(attn: str, keep: int) -> None:
    model, inputs = model_of("llava", attn), inputs_of("llava")
    share, more = divmod(SIDE**2 - keep, BLOCKS)
    with torch.no_grad():
        rows, places = compressed_by_hand(
            model, inputs["pixel_values"], (share + (more > 0), share + (more > 1))
        )
    seen: list[StageContext] = []
    method = FiCoCoV(first=0)
    chain = unibench.Chain((method, Look(seen.append, 1)))
    with unibench.prune(model, chain, keep=keep) as session, torch.no_grad():
        embeds: list[Tensor] = []
        probe = model.model.language_model.layers[0].register_forward_pre_hook(
            lambda module, args: embeds.append(args[0].clone())
        )
        model(**copy.deepcopy(inputs))
        probe.remove()
    assert session.take_records()[0].kept == keep
    kept = seen[0].vision_rows
    assert kept.tolist() == sorted(places.tolist())
    found = embeds[-1][0][seen[0].visual]
    torch.testing.assert_close(found, rows[places.argsort()], atol=1e-4, rtol=1e-4)
    assert not session.notes


def test_the_official_bug_of_ficoco_hands_on_as_many_tokens() -> None:
    model, inputs = model_of("llava"), inputs_of("llava", 0, 2)
    kept = {}
    for variant in ("default", "official_bug"):
        with unibench.prune(model, FiCoCoV(variant=variant, r=3), ratio=0.5) as session:  # type: ignore[arg-type]
            with torch.no_grad():
                model(**copy.deepcopy(inputs))
        (record,) = session.take_records()
        kept[variant] = record.kept
        assert any("official_bug" in note for note in session.notes) == (variant != "default")
    # the middle of two blocks is the second: three go in each picture
    assert kept == {"default": 2 * 13, "official_bug": 2 * 13}


@pytest.mark.parametrize("attn", ATTN)
def test_a_stage_that_merges_nothing_changes_nothing(attn: str) -> None:
    class Nothing(Unbudgeted):
        def encoder(self, blocks: int) -> Sequence[EncoderStage]:
            return [
                EncoderStage(0, lambda ctx: None),
                EncoderStage(1, lambda ctx: None, inside=False),
            ]

        def stages(self, depth: int) -> Sequence[Stage]:
            return ()

    model, inputs = model_of("llava", attn), inputs_of("llava", 0, 2)
    tokens, scores, _ = generate(model, inputs)
    with unibench.prune(model, Nothing()):
        again, again_scores, _ = generate(model, inputs)
    torch.testing.assert_close(again_scores, scores, atol=1e-4, rtol=1e-4)
    assert torch.equal(again, tokens)


@pytest.mark.parametrize(
    "method",
    [ToMe(), MustDropVit(window=2), FiCoCoV(), FiCoCoV(variant="official_bug")],
    ids=["tome", "mustdrop_vit", "ficoco_v", "ficoco_v[official_bug]"],
)
def test_a_batch_equals_single_pictures(method: Method) -> None:
    model, samples = (
        model_of("llava"),
        [inputs_of("llava", seed, 1 + seed % 2) for seed in range(3)],
    )
    with unibench.prune(model, method, ratio=0.6) as session:
        together, _, _ = generate(model, collate(samples))
        records = session.take_records()
        for row, sample in enumerate(samples):
            alone, _, _ = generate(model, sample)
            assert torch.equal(together[row], alone[0])
            assert session.take_records() == [records[row]]


def test_windows_are_merged_behind_the_first_block() -> None:
    model, inputs = model_of("llava"), inputs_of("llava")
    seen: list[EncoderContext] = []

    @dataclass(frozen=True)
    class Watched(MustDropVit):
        def _inside(self, ctx: EncoderContext) -> Matching | None:
            seen.append(ctx)
            return MustDropVit._inside(self, ctx)

    with unibench.prune(model, Watched(window=2), keep=7) as session, torch.no_grad():
        model(**copy.deepcopy(inputs))
    ctx, _ = seen  # the second time its arithmetic is counted
    tower = model.model.vision_tower
    with torch.no_grad():
        first = tower.encoder.layers[0](
            tower.pre_layrnorm(tower.embeddings(inputs["pixel_values"])), None
        )
    torch.testing.assert_close(ctx.tokens, (first[0] if isinstance(first, tuple) else first)[0])
    assert session.take_records()[0].kept == 16 - 3 * 3  # (16 + 1 - 7) // 3 windows of four


def test_merging_is_method_time_and_not_vision_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*args: Any, **options: Any) -> Matching:
        time.sleep(0.05)
        return bipartite(*args, **options)

    monkeypatch.setattr("unibench.methods.tome.bipartite", slow)
    model, inputs = model_of("llava"), inputs_of("llava")
    with unibench.prune(model, ToMe(), keep=8) as session, torch.no_grad():
        model(**copy.deepcopy(inputs))
        (taken,) = session.take_times()
    assert taken.method >= 0.05
    assert taken.vision + taken.method < taken.prefill


def test_families_whose_projector_joins_patches_merge_behind_the_tower() -> None:
    for family in ("qwen2_5_vl", "internvl"):
        with unibench.prune(model_of(family), ToMe(), ratio=0.5) as session:
            generate(model_of(family), inputs_of(family))
        assert "tome_post: merged after the vision tower" in session.notes


def test_signals_of_merged_tokens_stand_at_their_places() -> None:
    """The CLS row of the last block, behind windows merged in the first, against the tower computed
    by hand.
    """
    model, inputs = model_of("llava", "eager"), inputs_of("llava", 0, 2)
    found: list[tuple[Tensor, Tensor]] = []

    @dataclass(frozen=True)
    class Watched(MustDropVit):
        def stages(self, depth: int) -> Sequence[Stage]:
            return [Stage(0, self.look, Needs(vit_attention=(-1,)), exact=False)]

        def look(self, ctx: StageContext) -> None:
            assert ctx.vision is not None and ctx.vision.merged is not None
            found.append((ctx.vision.cls(-1), ctx.vision.merged))

    maps: list[Tensor] = []
    last = model.model.vision_tower.encoder.layers[-1].self_attn
    probe = last.register_forward_hook(lambda module, args, out: maps.append(out[1]))
    with unibench.prune(model, Watched(window=2), keep=7), torch.no_grad():
        model(**copy.deepcopy(inputs))
    probe.remove()
    ((row, merged),) = found
    assert merged.sum() == 2 * 7 and torch.equal(row > 0, merged)
    singles, windows = 7 - 3, 3
    for tile, weights in enumerate(maps):
        expected = weights[0, :, 0].mean(0)[1:]  # [singles, then merged windows]
        values = row[16 * tile : 16 * (tile + 1)]
        torch.testing.assert_close(values[values > 0].sort().values, expected.sort().values)
        assert len(expected) == singles + windows
