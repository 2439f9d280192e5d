"""What the video methods must do on prompts with a video, on every family that reads one."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import unibench
from tests.methods._contexts import VIDEO_ONLY, video_of
from tests.support.models import VIDEOS, collate, generate, inputs_of, model_of
from tests.support.turns import Ways, in_turn, one_in, plain
from unibench import Method, UsageError
from unibench.api import build_method
from unibench.budget import Budget
from unibench.cost.accounting import equivalent_tokens, processed
from unibench.pruning import StepContext

RATIOS = (0.1, 0.5, 0.667, 0.75, 0.889)
# name -> method, options
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "vidcom2": ("vidcom2", {}),
    "evs": ("evs", {}),
    "dycoke": ("dycoke", {}),
    "holitom": ("holitom", {}),
    "holitom[still]": ("holitom", {"tau": 0.5}),
    "holitom[inner]": ("holitom", {"inner": True}),
    "fastvid": ("fastvid", {}),
    "fastvid[segments]": ("fastvid", {"segments": 3, "tau": 0.5}),
    "fastvid[ignore]": ("fastvid", {"segments": 3, "tau": 0.5, "ignore": 0.9}),
    "fastvid[official_ov]": ("fastvid", {"variant": "official_ov", "retention": 0.4}),
    "fastvid[official_qwen]": ("fastvid", {"variant": "official_qwen", "ignore": 0.95}),
    "flashvid": ("flashvid", {}),
    "flashvid[trees]": ("flashvid", {"segments": 3, "segment": 0.5, "temporal": 0.4}),
    "flashvid[llm]": ("flashvid", {"llm": True, "segments": 3, "segment": 0.5}),
    "flashvid[official_bug]": ("flashvid", {"variant": "official_bug", "counts": "official"}),
    "prunevid": ("prunevid", {"tau": 0.5}),
    "prunevid[official]": ("prunevid", {"counts": "official"}),
    "sttm": ("sttm", {"layer": 2}),
    "sttm[weighted]": ("sttm", {"layer": 0, "weighted": True, "slow": True, "head": 16}),
    "sttm[threshold]": ("sttm", {"mode": "threshold", "time": 0.3}),
    "framefusion": ("framefusion", {}),
    "framefusion[weak]": ("framefusion", {"similarity": 0.95}),
    "framefusion[cost]": ("framefusion", {"cost": 0.3}),
    "aim": ("aim", {}),
    "aim[merge]": ("aim", {"prune": False}),
    "aim[prune]": ("aim", {"merge": False}),
    "aim[schedule]": ("aim", {"schedule": (2, 1)}),
    "dycoke[restrict]": ("dycoke", {"decode": "restrict"}),
    "dycoke[evict]": ("dycoke", {"decode": "evict"}),
    "dycoke[official]": ("dycoke", {"counts": "official"}),
    "dycoke[official_bug]": ("dycoke", {"variant": "official_bug"}),
}
# meet the budget at every ratio
EXACT = (
    "vidcom2",
    "evs",
    "dycoke",
    "holitom",
    "holitom[still]",
    "fastvid",
    "fastvid[segments]",
    "fastvid[ignore]",
    "flashvid",
    "flashvid[trees]",
    "aim[merge]",
)
# in the default tests: newlines and frames by an axis of their own, three axes of position, frames
# as items
OFTEN = ("qwen2_5_vl", "llava_onevision", "internvl")


def read(name: Any, family: str) -> Ways:
    """Families that read videos."""
    return ((),) if family in VIDEOS else ()


def whole(name: Any, family: str) -> Ways:
    """Those for which a video is one item; a frame is to InternVL."""
    return read(name, family) if family != "internvl" else ()


def build(name: str) -> Method:
    method, options = CASES[name]
    return build_method(method, **options)


@in_turn("name, family", EXACT, read, on=1, quick=OFTEN)
def test_the_budget_is_met_on_a_video(name: str, family: str) -> None:
    model, inputs = model_of(family), video_of(family)
    for ratio in RATIOS:
        with unibench.prune(model, build(name), ratio=ratio) as session, torch.no_grad():
            logits: Tensor = model(**copy.deepcopy(inputs)).logits
        (record,) = session.take_records()
        assert logits.isfinite().all()
        assert record.processed[-1] == Budget.parse(ratio=ratio).keep(record.visual_tokens)


@in_turn("name, family", EXACT, read, on=1, quick=OFTEN)
def test_a_video_kept_whole_is_the_unpruned_model(name: str, family: str) -> None:
    model, inputs = model_of(family), video_of(family)
    with torch.no_grad():
        plain = model(**copy.deepcopy(inputs)).logits
        with unibench.prune(model, build(name), ratio=0) as session:
            whole = model(**copy.deepcopy(inputs)).logits
    (record,) = session.take_records()
    assert set(record.processed) == {record.visual_tokens}
    torch.testing.assert_close(whole, plain, atol=1e-4, rtol=1e-4)


@in_turn("name, family", CASES, whole, on=1, quick=OFTEN[:2], often=plain)
def test_a_video_may_have_a_budget_of_its_own(name: str, family: str) -> None:
    model, inputs = model_of(family), video_of(family)
    with unibench.prune(model, build(name), ratio=0.5, scope="item") as session, torch.no_grad():
        model(**copy.deepcopy(inputs))
    with unibench.prune(model, build(name), ratio=0.5) as alone, torch.no_grad():
        model(**copy.deepcopy(inputs))
    (record,), (expected,) = session.take_records(), alone.take_records()
    assert record.last == expected.last


@in_turn("name, family", CASES, read, on=1, quick=OFTEN, often=one_in(3, CASES))
def test_a_batch_of_videos_chooses_as_single_ones_do(name: str, family: str) -> None:
    model, method = model_of(family), build(name)
    samples = [video_of(family, 0), video_of(family, 2)]
    if family.startswith("qwen") and name not in VIDEO_ONLY:
        samples.insert(1, inputs_of(family, 1, 1))
    with unibench.prune(model, method, ratio=0.667) as session:
        tokens, _, _ = generate(model, collate(samples), 4)
        records = session.take_records()  # with the tokens that reach the last layer
        for row, sample in enumerate(samples):
            alone, _, _ = generate(model, sample, 4)
            assert session.take_records() == [records[row]]
            assert torch.equal(alone[0], tokens[row])


@pytest.mark.parametrize("depth", [6, 28, 36])
def test_flashvid_processes_as_many_tokens_on_average_as_it_is_given(depth: int) -> None:
    total = 6272
    stages = build_method("flashvid").averaged(depth)
    for share in (0.1, 0.25, 0.5, 0.9):
        average = Budget.parse(retention=share).keep(total)
        counts = processed(stages, average, total, depth)
        assert equivalent_tokens(counts) == pytest.approx(average, abs=1)
        assert counts[0] > average > counts[-1]
    # as published: a quarter more than the mean, and three tenths of it from layer 20 of 28 on
    assert processed(build_method("flashvid").averaged(28), 1000, total, 28)[19:21] == (1250, 375)
    assert processed(stages, total, total, depth) == (total,) * depth


def test_flashvid_is_asked_twice_where_the_budget_is_a_mean() -> None:
    model, inputs = model_of("llava_onevision"), video_of("llava_onevision")
    with (
        unibench.prune(model, "flashvid", ratio=0.5, budget_mode="layer_average") as session,
        torch.no_grad(),
    ):
        model(**copy.deepcopy(inputs))
    (record,) = session.take_records()
    assert record.processed[0] > record.visual_tokens / 2 > record.processed[-1]
    assert equivalent_tokens(record.processed) == pytest.approx(record.visual_tokens / 2, abs=1)


def test_aim_drops_an_eighth_of_what_entered_at_each_of_eight_layers() -> None:
    stages = build_method("aim").stages(28)
    counts = processed(stages, 1568, 6272, 28)
    assert counts[:15] == (1568,) * 15
    assert counts[15:23] == tuple(1568 * part // 8 for part in range(7, -1, -1))
    # a quarter before the model: 16.5 % of the tokens on average
    assert equivalent_tokens(counts) / 6272 == pytest.approx(0.165, abs=5e-4)
    stages = build_method("aim").averaged(28)
    assert equivalent_tokens(processed(stages, 1568, 6272, 28)) == pytest.approx(1568, abs=1)


@in_turn("mode, family", ["at_stage", "layer_average"], read, on=2, quick=OFTEN)
def test_aim_leaves_the_model_without_a_visual_token(family: str, mode: str) -> None:
    model, inputs = model_of(family), video_of(family)
    with (
        unibench.prune(model, "aim", ratio=0.5, budget_mode=mode) as session,
        torch.no_grad(),
    ):
        model(**copy.deepcopy(inputs))
    (record,) = session.take_records()
    keep = Budget.parse(ratio=0.5).keep(record.visual_tokens)
    assert record.processed[-1] == 0
    if mode == "at_stage":
        assert record.processed[0] == keep
    else:
        assert equivalent_tokens(record.processed) == pytest.approx(keep, abs=1)


@in_turn(
    "mode, similarity, family",
    [*itertools.product(["at_stage", "layer_average"], [0.3, 0.6, 0.95, 1.0])],
    read,
    on=1,
    quick=OFTEN,
)
def test_framefusion_meets_a_number_and_a_mean(family: str, mode: str, similarity: float) -> None:
    model, inputs = model_of(family), video_of(family)
    method = build_method("framefusion", similarity=similarity)
    for ratio in (0, 0.3, 0.5, 0.75):
        with (
            unibench.prune(model, method, ratio=ratio, budget_mode=mode) as session,
            torch.no_grad(),
        ):
            model(**copy.deepcopy(inputs))
        (record,) = session.take_records()
        keep = Budget.parse(ratio=ratio).keep(record.visual_tokens)
        if mode == "at_stage":
            assert record.processed[-1] == keep
        elif any("out of reach" in note for note in session.notes):
            assert record.processed[-1] == 1
            assert equivalent_tokens(record.processed) > keep
        else:  # a token more or less in each layer
            assert equivalent_tokens(record.processed) == pytest.approx(keep, abs=1)


@in_turn("layer, family", [0, 2], read, on=2, quick=OFTEN)
def test_sttm_meets_every_budget_of_a_node_in_each_corner(family: str, layer: int) -> None:
    model, inputs = model_of(family), video_of(family)
    for ratio in (0, *RATIOS):
        method = build_method("sttm", layer=layer)
        with unibench.prune(model, method, ratio=ratio) as session, torch.no_grad():
            logits = model(**copy.deepcopy(inputs)).logits
        (record,) = session.take_records()
        keep = Budget.parse(ratio=ratio).keep(record.visual_tokens)
        # four nodes, whatever the video shows; the newline behind it is a token of its own
        separators = sum(sum(item.separators) for item in record.items)
        assert record.processed[-1] == max(keep, 4 + separators)
        if ratio == 0:
            with torch.no_grad():
                plain = model(**copy.deepcopy(inputs)).logits
            torch.testing.assert_close(logits, plain, atol=1e-4, rtol=1e-4)


@in_turn("mode, family", ["at_stage", "layer_average"], read, on=2, quick=OFTEN)
def test_prunevid_meets_a_budget_that_its_first_stage_leaves(family: str, mode: str) -> None:
    model, inputs = model_of(family), video_of(family)
    method = build_method("prunevid", tau=0.5)
    for ratio in (0.3, 0.75):
        with (
            unibench.prune(model, method, ratio=ratio, budget_mode=mode) as session,
            torch.no_grad(),
        ):
            model(**copy.deepcopy(inputs))
        (record,) = session.take_records()
        keep = Budget.parse(ratio=ratio).keep(record.visual_tokens)
        first, last, depth = record.processed[0], record.processed[-1], len(record.processed)
        if mode == "at_stage" or first <= keep:
            assert last == min(first, keep)
        elif last > 1:  # a mean in reach
            assert equivalent_tokens(record.processed) == pytest.approx(keep, abs=1)
        else:
            assert first * record.processed.count(first) >= (keep - 1) * depth


def test_prunevid_empties_the_caches_of_the_layers_before_its_cut() -> None:
    model, inputs = model_of("qwen2_5_vl"), video_of("qwen2_5_vl")
    with unibench.prune(model, build_method("prunevid", tau=0.5), ratio=0.75) as session:
        _, _, cache = generate(model, inputs, 3)
    (record,) = session.take_records()
    held = {layer.get_seq_length() for layer in cache.layers}
    assert record.processed[0] > record.processed[-1]
    assert held == {record.text_tokens + record.processed[-1] + 2}


def test_dycoke_reads_three_tenths_of_the_visual_tokens_while_decoding() -> None:
    model, inputs = model_of("llava_onevision"), video_of("llava_onevision")
    method = build_method("dycoke", decode="restrict")
    with unibench.prune(model, method, ratio=0.5) as session:
        _, _, cache = generate(model, inputs, 5)
        reads = session.take_reads()
    (record,) = session.take_records()
    held, newline = record.processed[-1], 1
    fewer = int((held - newline) * (1 - 0.7)) + newline
    assert [read.layers for read in reads] == [(held,) * 3 + (fewer,) * 3] * 4
    # nothing has left the caches, and with evict the later layers lose it for good
    assert {layer.get_seq_length() for layer in cache.layers} == {record.text_tokens + held + 4}
    with unibench.prune(model, build_method("dycoke", decode="evict"), ratio=0.5):
        _, _, cache = generate(model, inputs, 5)
    lengths = [layer.get_seq_length() - record.text_tokens - 4 for layer in cache.layers]
    assert lengths == [held] * 3 + [fewer] * 3


@pytest.mark.parametrize("layer", [0, 99])
def test_dycoke_names_a_layer_that_the_decoder_does_not_have(layer: int) -> None:
    with (
        pytest.raises(UsageError, match=str(layer)),
        unibench.prune(model_of("qwen2_5_vl"), "dycoke", ratio=0.5, decode="restrict", layer=layer),
    ):
        pass


def test_a_choice_is_used_again_while_attention_hardly_changes() -> None:
    method, memory = build_method("dycoke", decode="restrict", unread=0.5), {}
    defective = build_method("dycoke", decode="restrict", unread=0.5, variant="official_bug")

    def read(chooser: Method, row: list[float], memory: dict[str, Tensor]) -> list[int] | None:
        marks = torch.tensor([False] * 4 + [True])
        kept = chooser.reselect(StepContext(2, torch.tensor([row]), torch.arange(5), marks, memory))
        return None if kept is None else kept.tolist()

    assert read(method, [0.4, 0.3, 0.2, 0.1, 0.0], memory) == [0, 1, 4]
    assert read(method, [0.3, 0.2, 0.31, 0.1, 0.0], memory) == [0, 1, 4]  # nearly as before
    assert read(method, [0.0, 0.1, 0.4, 0.5, 0.0], memory) == [2, 3, 4]
    other: dict[str, Tensor] = {}
    assert read(defective, [0.4, 0.3, 0.2, 0.1, 0.0], other) == [0, 3, 4]  # of the first three
    assert read(defective, [0.4, 0.3, 0.2, 0.1, 0.0], other) is None


@pytest.mark.parametrize("name", ["vidcom2", "evs"])
def test_deepstack_features_take_part_where_vllm_has_them(name: str) -> None:
    model, inputs = model_of("qwen3_vl"), video_of("qwen3_vl")
    last = []
    for deepstack in (False, True):
        method = build_method(name, deepstack=deepstack)
        with unibench.prune(model, method, ratio=0.667) as session, torch.no_grad():
            model(**copy.deepcopy(inputs))
        (record,) = session.take_records()
        assert record.processed[-1] == Budget.parse(ratio=0.667).keep(record.visual_tokens)
        last.append(record.last)
    assert last[0] != last[1]
    with (
        pytest.raises(UsageError, match="has no DeepStack features"),
        unibench.prune(model_of("qwen2_5_vl"), build_method(name, deepstack=True), ratio=0.5),
    ):
        pass
