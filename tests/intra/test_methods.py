"""What single methods promise beyond the official answers: exact counts, ties, edges, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden._context import Notes, StubFamily, StubVision
from unibench import Selection, Stage, StageContext, UsageError
from unibench.api import build_method
from unibench.compose import compose_cells
from unibench.methods import _recycling
from unibench.methods.fitprune import attention_flow
from unibench.methods.mustdrop import MustDrop
from unibench.ops.clustering import density_peaks
from unibench.pruning import Item, Part


@dataclass(frozen=True)
class Made(StageContext):
    """A context with attention, keys and normed states of its own."""

    rows: Callable[[Tensor | None], Tensor] = field(
        default=lambda queries: torch.empty(0), repr=False
    )
    made_keys: Tensor = field(default_factory=lambda: torch.empty(0), repr=False)

    def attention(self, layer: int, queries: Tensor | None = None) -> Tensor:
        return self.rows(queries)

    def keys(self, layer: int, rows: Tensor | None = None) -> Tensor:
        return self.made_keys[:, self.visual if rows is None else rows]

    def final_norm(self, hidden: Tensor) -> Tensor:
        return hidden


def made(
    count: int,
    keep: int,
    *,
    text: int = 5,
    start: int = 3,
    seed: int = 0,
    layer: int = 2,
    **more: Any,
) -> Made:
    g = torch.Generator().manual_seed(seed)
    length = start + count + text
    values: dict[str, Any] = dict(
        layer=layer,
        keep=keep,
        total=count,
        hidden=torch.randn(length, 8, generator=g),
        visual=torch.arange(start, start + count),
        origin=torch.arange(length),
        vision_rows=torch.arange(count),
        items=(Item(0, count),),
        made_keys=torch.randn(2, length, 4, generator=g),
    )
    return Made(**{**values, **more})


def cut(name: str, **parameters: Any) -> Stage:
    """The only cut of a method, or its last one."""
    return build_method(name, **parameters).stages(32)[-1]


def keep_of(stage: Stage, ctx: StageContext) -> Tensor:
    selection = stage.select(ctx)
    assert selection is not None
    return selection.keep


# -- dart


@pytest.mark.parametrize("keep", [1, 3, 4, 5, 11, 12, 20, 29, 30])
@pytest.mark.parametrize("text", [0, 1, 2, 9])
def test_dart_keeps_exactly_what_it_is_asked_for(keep: int, text: int) -> None:
    kept = keep_of(cut("dart"), made(30, keep, text=text))
    assert len(set(kept.tolist())) == keep


def test_dart_fills_what_division_leaves_over_with_the_greatest_keys() -> None:
    ctx = made(40, 4 + 8 * 2 + 3)
    kept = set(keep_of(cut("dart"), ctx).tolist())
    base = set(keep_of(cut("dart"), made(40, 4 + 8 * 2)).tolist())
    order = ctx.keys(1).abs().sum((0, 2)).argsort(descending=True).tolist()
    assert kept - base == set([token for token in order if token not in base][:3])
    official, note = made(40, 27, note=(notes := Notes())), notes
    assert len(keep_of(cut("dart", variant="official_bug"), official)) == 4 + 8 * 3  # 28 for 27
    assert note.said == {"dart: official count and pivot order"}


def test_dart_breaks_ties_by_lower_index() -> None:
    same = made(20, 9, hidden=torch.ones(28, 8), made_keys=torch.ones(1, 28, 4))
    assert keep_of(cut("dart"), same).tolist() == list(range(9))


# -- sparsevlm


def sparse_at(number: int, ctx: Made, raters: list[int], **parameters: Any) -> Selection | None:
    ctx.memory["raters"] = torch.tensor(raters)
    selection: Selection | None = (
        build_method("sparsevlm", **parameters).stages(32)[number + 1].select(ctx)
    )
    return selection


def drawn(count: int, seed: int = 0) -> Callable[[Tensor | None], Tensor]:
    attention = torch.rand(2, 200, count, generator=torch.Generator().manual_seed(seed))
    return lambda queries: attention[:, :1] if queries is None else attention[:, queries]


def test_raters_are_the_words_that_resemble_the_picture_more_than_the_average_word() -> None:
    hidden = torch.zeros(9, 4)
    hidden[1:4, 0] = 1.0  # visual
    hidden[4:9, 0] = torch.tensor([3.0, 0.0, 0.0, 2.9, 0.0])
    ctx = made(3, 3, start=1, hidden=hidden)
    look = build_method("sparsevlm").stages(32)[0]
    assert look.select(ctx) is None
    assert ctx.memory["raters"].tolist() == [4, 7]
    alike = made(3, 3, start=1, hidden=torch.ones(9, 4))
    look.select(alike)
    assert alike.memory["raters"].tolist() == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("keep", [1, 2, 3, 9, 30, 55, 59, 60])
def test_sparsevlm_keeps_its_count_with_the_merged_ones(keep: int) -> None:
    selection = sparse_at(2, made(60, keep, layer=16, rows=drawn(60)), [64, 66])
    if keep == 60:
        assert selection is None
        return
    assert selection is not None
    assert selection.values is None or selection.values.shape == (keep, 8)
    assert len(set(selection.keep.tolist())) == keep
    assert (selection.values is None) == (keep == 1)


def test_sparsevlm_merges_the_best_of_what_it_drops() -> None:
    ctx = made(60, 0, layer=3, rows=drawn(60), note=(notes := Notes()))
    selection = sparse_at(0, ctx, [64, 66], counts=(40, 30, 20))
    assert selection is not None
    assert selection.values is not None
    score = drawn(60)(torch.tensor([64, 66])).mean((0, 1))
    order = score.argsort(descending=True)
    assert set(selection.keep[:40].tolist()) == set(order[:40].tolist())
    assert len(selection.keep) == 41  # seven recycled in one cluster
    mean = ctx.visual_hidden[order[40:47]].mean(0)
    torch.testing.assert_close(selection.values[40], mean)
    assert int(selection.keep[40]) in order[40:47].tolist()
    assert notes.said == {"stage counts given; the budget is not used"}


def test_the_rank_of_the_attention_may_give_the_counts() -> None:
    low = torch.rand(3, 1, 60).repeat(1, 200, 1)
    ctx = made(
        60,
        60,
        layer=3,
        rows=lambda queries: low[:, : len(queries)] if queries is not None else low[:, :1],
    )
    selection = sparse_at(0, ctx, [64, 65, 66], rank=True, rank_scale=2.0, rank_bias=8.0)
    assert selection is not None
    assert len(selection.keep) == 10 + _recycling.clusters(50, 0.3)  # rank 1
    full = made(4, 4, layer=3, rows=lambda queries: torch.eye(4)[None])
    assert sparse_at(0, full, [8, 9, 10], rank=True) is None


def test_equal_densities_go_to_the_lower_index() -> None:
    x = torch.tensor(
        [[0.0], [1.0], [10.0], [11.0], [30.0], [31.0]]
    )  # three pairs of mutual neighbours
    found = density_peaks(x, 2, 2)
    assert found.centre.tolist() == [0, 4]
    for _ in range(5):
        assert torch.equal(density_peaks(x, 2, 2).slot, found.slot)
    one = density_peaks(torch.randn(7, 3), 1, 1)
    assert one.centre.tolist() == [0]
    assert one.slot.tolist() == [0] * 7
    assert density_peaks(torch.ones(5, 3), 5, 1).slot.tolist() == [0, 1, 2, 3, 4]


# -- fitprune


def test_fitprune_scores_take_the_greatest_head() -> None:
    maps = torch.rand(3, 40, 12, generator=torch.Generator().manual_seed(0))
    ctx = made(12, 6, start=2, text=4, rows=lambda queries: maps[:, queries])
    cross, own = attention_flow(ctx, 1)
    torch.testing.assert_close(cross, maps[:, 14:18].amax(0).sum(0))
    torch.testing.assert_close(own, maps[:, 2:14].amax(0).mean(0))
    kept = keep_of(cut("fitprune", recipe=[0] * 10 + [1] + [0] * 21), ctx)
    assert set(kept.tolist()) == set((cross * own).argsort(descending=True)[:6].tolist())


def test_a_recipe_follows_the_depth_and_says_whose_it_is() -> None:
    layers = [stage.layer for stage in build_method("fitprune", recipe=(0, 1, 0, 1)).stages(8)]
    assert layers == [
        3,
        4,
        7,
    ]  # a layer's deletions are spread over the layers it becomes; the last layer's are of no use
    with pytest.raises(UsageError, match="deletes nothing before the last of 8 layers"):
        build_method("fitprune", recipe=(0, 0, 0, 0)).stages(8)
    for recipe, said in (
        ((), {"recipe of LLaVA-1.5-7B, not fitted to this model"}),
        ((1, 1), set()),
    ):
        notes = Notes()
        build_method("fitprune", recipe=recipe).stages(6)[0].select(made(9, 9, note=notes))
        assert notes.said == said


# -- mustdrop


def mustdrop_context(given: Tensor, key: list[int], **more: Any) -> Made:
    count = given.shape[1]
    return made(
        count,
        count,
        text=given.shape[0],
        layer=3,
        rows=lambda queries: given[None],
        memory={"key": torch.tensor(key)},
        **more,
    )


def test_mustdrop_drops_what_is_strictly_below_both_thresholds_and_no_key_token() -> None:
    given = torch.tensor([[0.5, 0.125, 0.0, 0.0, 0.0], [0.25, 0.0, 0.125, 0.0, 0.0]])
    filtered = MustDrop(layers=(3,), global_threshold=0.125, individual_threshold=0.125).stages(32)[
        1
    ]
    # tokens 1 and 2 have exactly an eighth: equality keeps; 4 is a key token
    assert keep_of(filtered, mustdrop_context(given, [4])).tolist() == [0, 1, 2, 4]
    looser = MustDrop(layers=(3,), global_threshold=0.13, individual_threshold=0.125).stages(32)[1]
    assert keep_of(looser, mustdrop_context(given, [4])).tolist() == [0, 1, 2, 4]
    both = MustDrop(layers=(3,), global_threshold=0.13, individual_threshold=0.126).stages(32)[1]
    assert keep_of(both, mustdrop_context(given, [4])).tolist() == [0, 4]


def test_mustdrop_evicts_from_the_first_cut_on_what_did_not_reach_the_end() -> None:
    method = MustDrop(layers=(3,), global_threshold=0.5, individual_threshold=0.5)
    ctx = mustdrop_context(torch.tensor([[0.9, 0.0, 0.1, 0.0]]), [3])
    assert keep_of(method.stages(32)[1], ctx).tolist() == [0, 3]
    for layer, stays in ((0, None), (1, None), (2, [0, 3]), (9, [0, 3])):
        evicted = method.evict(made(4, 4, text=1, layer=layer, memory=ctx.memory))
        assert (None if evicted is None else evicted.tolist()) == stays
    assert method.evict(made(4, 4, layer=9)) is None  # nothing was cut


def test_a_tower_without_cls_gives_received_attention_and_says_so() -> None:
    notes = Notes()
    features = torch.randn(9, 8)
    vision = StubVision({"features": features, "received_attention": torch.arange(9.0)})
    ctx = made(
        9,
        9,
        note=notes,
        vision=vision,
        family=StubFamily(cls=False),
        layer=0,
        items=(Item(0, 9, (Part(1, 3, 3),)),),
    )
    selection = MustDrop().stages(32)[0].select(ctx)
    assert selection is not None
    assert ctx.memory["key"].tolist() == [8]
    assert "received attention (no CLS token)" in notes.said


# -- two stages, schedules


def test_the_total_of_two_stages_is_split_as_in_table_5() -> None:
    method: Any = build_method("two_stage")
    assert method.counts(64, 576) == (192, 64)  # 0.889 is 0.667 twice
    assert build_method("two_stage", split=0.0).counts(64, 576) == (576, 64)  # type: ignore[attr-defined]
    assert build_method("two_stage", split=1.0).counts(64, 576) == (64, 64)  # type: ignore[attr-defined]
    assert build_method("two_stage", pre_ratio=0.5).counts(64, 576) == (288, 64)  # type: ignore[attr-defined]
    both = dict(pre_ratio=0.667, intra_ratio=0.667)
    assert build_method("two_stage", **both).counts(1, 576) == (192, 64)  # type: ignore[attr-defined]
    official: Any = build_method("two_stage", **both, variant="official_bug")
    assert official.counts(1, 576) == (192, 63)
    assert official.counts(1, 64) == (21, 6)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"pre": "divprun"}, "Did you mean divprune"),
        ({"intra_options": {"layers": 3}}, "Did you mean layer"),
        ({"split": 1.5}, "method.split=1.5: at least 0 and at most 1"),
        ({"pre_ratio": 66.7}, "Did you mean 0.667"),
        ({"intra_ratio": 0.5}, "give method.pre_ratio"),
        ({"variant": "official_bug"}, "give method.pre_ratio and method.intra_ratio"),
        ({"variant": "oficial_bug"}, "Did you mean official_bug"),
    ],
)
def test_what_two_stages_cannot_use_is_said(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_method("two_stage", **parameters)


def test_a_first_stage_below_the_budget_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"pre_ratio=0.9 leaves 58 of 576 tokens, fewer than the budget of 64"
    ):
        build_method("two_stage", pre_ratio=0.9).counts(64, 576)  # type: ignore[attr-defined]


def test_a_schedule_takes_shares_of_the_original_tokens() -> None:
    stages = build_method("schedule", cuts=[[6, None], [2, 0.5], [4, 0.25]]).stages(8)
    assert [(stage.layer, stage.count(64, 576)) for stage in stages] == [
        (2, 288),
        (4, 144),
        (6, 64),
    ]  # type: ignore[misc]
    assert [stage.count(200, 576) for stage in stages] == [288, 200, 200]  # type: ignore[misc]
    for cuts, words in (
        ([[2, 0.5], [2, None]], "twice"),
        ([[2, 1.5]], "share in"),
        ([[2.5, 0.5]], "no pair"),
    ):
        with pytest.raises(UsageError, match=words):
            build_method("schedule", cuts=cuts)
    with pytest.raises(UsageError, match="layer"):
        build_method("schedule", method="divprune")


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("fastv", {"layer": 0}, "at least 1"),
        ("dart", {"layer": 0}, "at least 1"),
        ("dart", {"pivots_image": 0}, "pivots_image=0: at least 1"),
        ("dart", {"variant": "x"}, "Known: .*default, official_bug"),
    ],
)
def test_parameters_that_cannot_work_are_refused(
    name: str, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        build_method(name, **parameters)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("pyramiddrop", {"retentions": [0.5]}), ("sparsevlm", {"counts": [300]})],
)
def test_as_many_numbers_as_cuts_are_wanted(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"for cuts at 3 layers"):
        build_method(name, **parameters).stages(32)


def test_a_combination_is_named_on_the_command_line() -> None:
    line = [
        "method=two_stage",
        "method.pre=divprune",
        "method.intra=fastv",
        "method.intra_options={layer: 3}",
        "ratio=0.889",
    ]
    (cell,) = compose_cells(line, sweep=False)
    parameters = {key: value for key, value in cell.method.items() if key != "name"}
    stages = build_method(cell.method["name"], **parameters).stages(28)
    assert [(stage.layer, stage.count(64, 576)) for stage in stages] == [(0, 192), (3, 64)]  # type: ignore[misc]
    (cell,) = compose_cells(["method=schedule", "method.cuts=[[1,0.5],[3,null]]"], sweep=False)
    parameters = {key: value for key, value in cell.method.items() if key != "name"}
    assert [stage.layer for stage in build_method("schedule", **parameters).stages(28)] == [1, 3]
