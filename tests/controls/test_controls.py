"""The same question asked of less: what the model reads, and what the row says."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unibench.budget import Budget
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.config import FITTED, Control
from unibench.controls.frames import fewer_frames, spread
from unibench.controls.prompts import Controller, digest, others_of
from unibench.errors import UsageError, UsageErrors
from unibench.identity import Cell, cell_of, vanilla_of
from unibench.inference.ask import answer
from unibench.models import Clip, LoadedModel, load
from unibench.tasks.synthvqa import SynthVQA

MODELS = ("tiny_qwen2_5_vl", "tiny_llava", "tiny_internvl")


def cell(*words: str) -> Cell:
    (config,) = compose_cells([*words], sweep=False)
    return cell_of(config)


@cache
def loaded(name: str = MODELS[0]) -> LoadedModel:
    return load(cell(f"model={name}").config.model)


def asked(name: str, count: int, *words: str) -> list[Any]:
    one = cell(f"model={name}", *words)
    samples = enumerate(SynthVQA().samples(count))
    return list(answer(one, SynthVQA(), loaded(name), samples))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def read(
    control: Control,
    ratio: float | None,
    *pictures: Image.Image,
    keep: int | None = None,
    **more: Any,
) -> tuple[int, int]:
    """Tokens before a control, and after it."""
    budget = Budget.parse(ratio=ratio, keep=keep)
    changed = Controller(control, budget, **more)(loaded(), [*pictures, "What?"])
    inputs = changed.loaded.read([changed.pieces])
    kinds = changed.loaded.family.visual_kind(inputs["input_ids"])
    return changed.visual_tokens, int((kinds != 0).sum())


def test_a_resized_picture_never_has_more_tokens_than_the_budget_and_few_less() -> None:
    """Fewer by less than the larger of rows and columns, whatever the shape."""
    draw, fills = random.Random(0), []
    for _ in range(20):
        aspect = 30 ** draw.uniform(-1, 1)
        pixels = draw.uniform(60, 400) ** 2
        width, height = (max(28, round((pixels * a) ** 0.5)) for a in (aspect, 1 / aspect))
        shown = picture(width, height)
        grid = loaded().read([[shown, "?"]])["image_grid_thw"][0] // 2
        for ratio in (0.5, 0.667, 0.889, 0.99):
            before, after = read("resize", ratio, shown)
            keep = Budget.parse(ratio=ratio).keep(before)
            assert 1 <= after <= keep, (width, height, ratio)
            assert keep - after < max(int(side) for side in grid), (width, height, ratio)
            fills.append(after / keep)
    assert np.mean(fills) > 0.85


def test_several_pictures_share_a_budget_or_have_their_own() -> None:
    pictures = picture(280, 280), picture(168, 168, seed=1)
    before, after = read("resize", 0.75, *pictures)
    assert before == 100 + 36 and after <= Budget.parse(ratio=0.75).keep(before)
    _, own = read("resize", 0.75, *pictures, scope="item")
    assert own == 25 + 9


@pytest.mark.parametrize("control", FITTED[:4])
def test_a_fitted_control_keeps_the_question_and_the_number_of_pictures(control: Control) -> None:
    changed = Controller(control, Budget.parse(ratio=0.75))(loaded(), [picture(112, 84), "What?"])
    shown, text = changed.pieces
    assert text == "What?" and isinstance(shown, Image.Image) and shown.mode == "RGB"


def test_a_crop_is_the_middle_at_the_same_scale() -> None:
    shown = Image.new("RGB", (280, 280))
    shown.paste((255, 0, 0), (70, 70, 210, 210))
    changed = Controller("centre_crop", Budget.parse(ratio=0.75))(loaded(), [shown, "?"])
    (middle, _) = changed.pieces
    assert isinstance(middle, Image.Image) and middle.size == (140, 140)
    assert middle.getextrema() == ((255, 255), (0, 0), (0, 0))


def test_blurring_leaves_the_size_and_takes_what_a_smaller_picture_lacks() -> None:
    shown = picture(112, 112)
    changed = Controller("resize_blur", Budget.parse(ratio=0.9375))(loaded(), [shown, "?"])
    (blurred, _) = changed.pieces
    assert isinstance(blurred, Image.Image) and blurred.size == shown.size
    assert np.asarray(blurred).std() < np.asarray(shown).std() / 4
    assert read("resize_blur", 0.9375, shown) == (16, 16)


def test_grey_is_the_processors_zero() -> None:
    changed = Controller("blind_grey", Budget.parse())(loaded(), [picture(56, 56), "?"])
    pixels = changed.loaded.read([changed.pieces])["pixel_values"]
    assert float(pixels.abs().max()) < 0.01


def test_another_picture_is_never_ones_own_and_the_same_for_each_question() -> None:
    pictures = [picture(40 + 4 * number, 40, seed=number) for number in range(7)]
    others = others_of([*pictures, *pictures], seed=3)
    assert len(others) == 7
    assert all(digest(other) != name for name, other in others.items())
    assert len({digest(other) for other in others.values()}) == 7
    assert others_of(pictures[::-1], seed=3).keys() == others.keys()
    assert [digest(one) for one in others_of(pictures[::-1], 3).values()] == [
        digest(one) for one in others.values()
    ]
    with pytest.raises(UsageError, match="several pictures"):
        others_of([pictures[0], pictures[0].copy()], seed=0)


@pytest.mark.parametrize(
    "name", [*MODELS[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS[2:])]
)
def test_the_floors_without_a_picture(name: str) -> None:
    vanilla = asked(name, 6, "method=vanilla")
    for control, kept in (("blind", 0), ("blind_grey", None), ("blind_other", None)):
        records = asked(name, 6, f"control={control}")
        for one, whole in zip(records, vanilla, strict=True):
            assert one.visual_tokens == whole.visual_tokens
            assert one.kept == (whole.visual_tokens if kept is None else kept)
            assert one.tflops_full == pytest.approx(whole.tflops_full, rel=0.05)
        assert sum(one.score for one in records) < sum(one.score for one in vanilla)


@pytest.mark.parametrize("name", MODELS[1:])
def test_a_tower_of_one_size_is_refused_with_what_there_is_instead(name: str) -> None:
    for control in ("resize", "resize_divisor", "centre_crop"):
        with pytest.raises(UsageError, match=r"take control=resize_blur, or\s+method=pooling"):
            asked(name, 1, f"control={control}", "ratio=0.75")
    (record,) = asked(name, 1, "control=resize_blur", "ratio=0.75")
    assert record.kept == record.visual_tokens


def test_a_control_is_a_candidate_beside_the_methods() -> None:
    resize = cell("control=resize", "ratio=0.75")
    assert (resize.method, resize.config.method["name"]) == ("resize", "vanilla")
    assert vanilla_of(resize).key == cell("method=vanilla").key
    assert "control" not in cell("method=vanilla").identity
    assert resize.setting == cell("method=divprune", "ratio=0.5").setting
    pictures = [name for name in FITTED if name != "fewer_frames"]  # which wants a video
    keys = {cell(f"control={name}", "ratio=0.75").key for name in pictures}
    assert len({*keys, cell("method=vanilla").key}) == len(pictures) + 1
    assert cell("control=blind", "ratio=0.5").key == cell("control=blind", "ratio=0.75").key
    other = cell("control=blind_other", "seed=1")
    assert other.key != cell("control=blind_other").key
    assert other.series == cell("control=blind_other").series


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["control=resize", "method=divprune"], "stands in the place of a method"),
        (["control=resize", "batch_size=2"], "leave batch_size=2 out"),
        (["control=resize", "task=pope"], "add convention=model"),
        (["control=blind_other", "task=pope", "convention=model"], "hands over"),
        (["control=resise"], "Did you mean resize"),
        (["control=resise", "task=synthvideo"], "^unknown control[^\\n]*$"),  # and nothing more
        (["control=fewer_frames"], "task=synthvqa shows pictures: take control=resize"),
        (["control=resize", "task=synthvideo"], "shows videos: take control=fewer_frames"),
        (["control=blind_other", "task=synthvideo"], "shows videos: take control=fewer_frames"),
        (["control=native_budget", "task=pope", "convention=model"], "give the tokens of a pict"),
    ],
)
def test_what_a_control_cannot_stand_beside_is_refused(words: list[str], said: str) -> None:
    with pytest.raises((UsageError, UsageErrors), match=said):
        cell(*words)


def test_a_grid_of_controls_gives_rows_that_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"out={tmp_path / 'out'}"
    words = ["-m", "control=resize,blind", "ratio=0.75", "task.limit=4", out]
    assert main(words) == 0
    rows = [json.loads(file.read_text()) for file in Path(tmp_path, "out").rglob("metrics.json")]
    found = {row["method"]: (row["budget"], row["kept_mean"]) for row in rows}
    assert found == {"vanilla": ("0", 144), "resize": ("0.75", 36), "blind": ("0", 0)}
    capsys.readouterr()
    assert main(["store", "verify", str(tmp_path / "out")]) == 0, capsys.readouterr()
    assert main(["compare", "resize", "vanilla", out]) == 0
    assert main(["report", out]) == 0
    assert "resize" in capsys.readouterr().out


def test_a_native_budget_is_one_setting_for_all_pictures() -> None:
    for keep, sizes in ((36, ((336, 336), (100, 60))), (9, ((336, 112), (40, 300)))):
        for width, height in sizes:
            before, after = read("native_budget", None, picture(width, height), keep=keep)
            assert 1 <= after <= keep
            if before <= keep / 4:  # a smaller picture keeps its tokens
                assert after == before
    share = Controller("native_budget", Budget.parse(ratio=0.75), median=(336, 336))
    changed = share(loaded(), [picture(168, 168), "?"])
    assert changed.loaded.image_options["size"]["longest_edge"] == 36 * 28**2
    with pytest.raises(UsageError, match="give the tokens of a picture"):
        Controller("native_budget", Budget.parse(ratio=0.75))(loaded(), [picture(84, 84), "?"])
    with pytest.raises(UsageError, match="this model's has none"):
        Controller("native_budget", Budget.parse(keep=9))(
            loaded("tiny_llava"), [picture(84, 84), ""]
        )


def test_fewer_frames_are_evenly_spaced_and_meet_the_budget() -> None:
    assert [spread(count, 5) for count in (1, 2, 3, 5)] == [[2], [0, 4], [0, 2, 4], [0, 1, 2, 3, 4]]
    assert fewer_frames(9, 16, 1, lambda some: 4 * len(some) + 3) == [0, 4, 8]
    assert fewer_frames(8, 9, 2, lambda some: 4 * ((len(some) + 1) // 2)) == [0, 1, 6, 7]
    with pytest.raises(UsageError, match="fewest frames of this video have 7 tokens"):
        fewer_frames(9, 6, 1, lambda some: 4 * len(some) + 3)


def test_a_video_is_shown_in_fewer_frames_and_a_picture_has_none() -> None:
    clip = tuple(picture(112, 84, seed) for seed in range(8))
    control = Controller("fewer_frames", Budget.parse(ratio=0.5))
    changed = control(loaded(), [clip, "What?"])
    kinds = loaded().family.visual_kind(changed.loaded.read([changed.pieces])["input_ids"])
    assert int((kinds != 0).sum()) * 2 == changed.visual_tokens
    (shown, _) = changed.pieces
    assert isinstance(shown, tuple) and len(shown) == 4
    assert changed.places == ((0, 1, 6, 7),)
    told = {"total_num_frames": 80, "fps": 10.0, "frames_indices": list(range(0, 80, 10))}
    (timed, _) = control(loaded(), [Clip(clip, range(0, 80, 10), told), "What?"]).pieces
    assert isinstance(timed, Clip) and timed.numbers == (0, 10, 60, 70)
    assert timed.metadata == {**told, "frames_indices": [0, 10, 60, 70]}
    with pytest.raises(UsageError, match="this is a picture"):
        control(loaded(), [picture(56, 56), "What?"])
    with pytest.raises(UsageError, match="take control=fewer_frames"):
        Controller("resize", Budget.parse(ratio=0.5))(loaded(), [clip, "What?"])
