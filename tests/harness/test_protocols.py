"""One video under the frame protocols of the papers: other keys, frames, pixels and tokens.

The table is made by hand. The clip has 120 frames of 320 x 240 at 6 a second (20 seconds), so two a
second are 40, at 0, 3.05, 6.1, ... of 119; a temporal step is two frames, and a token 28 x 28
pixels of both.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.identity import Cell, cell_of
from unibench.models._sources import processor_of
from unibench.videos import evenly, taken

FRAMES, RATE, WIDTH, HEIGHT = 120, 6, 320, 240
MODEL = ("model=qwen2_5_vl_7b", "model.weights=random", "model.device=cpu")
WORDS = (*MODEL, "method=vidcom2", "ratio=0.75", "task=videomme", "harness=lmms_eval")

TWO_A_SECOND = [round(place * 119 / 39) for place in range(40)]  # qwen-vl-utils rounds
THINNED = [TWO_A_SECOND[place * 39 // 31] for place in range(32)]  # linspace of integers

# protocol -> words, frames, (height, width) of a frame in pixels, tokens of the prompt
PROTOCOLS: dict[str, tuple[tuple[str, ...], list[int], tuple[int, int], int]] = {
    # at least 256 tokens a step: 240 x 320 grows to 392 x 532, which is 14 x 19
    "vidcom2": (("convention=paper:vidcom2",), THINNED, (392, 532), 16 * 14 * 19),
    # within 16 and 16,384 tokens: rounded to 28s, 252 x 308, which is 9 x 11
    "fastvid": (("convention=paper:fastvid",), TWO_A_SECOND, (252, 308), 20 * 9 * 11),
    # at least 50,716 and at most 200,704 pixels: as it is
    "flashvid_baseline": (
        ("convention=paper:flashvid_baseline",),
        THINNED,
        (252, 308),
        16 * 9 * 11,
    ),
    # the processor's own sampling, every third of 120; at least 128 tokens: 280 x 392, 10 x 14
    "processor": (
        ("convention=model", "video.reader=processor", "video.fps=2"),
        list(range(0, 120, 3)),
        (280, 392),
        20 * 10 * 14,
    ),
    # 32 evenly spaced ones, handed over as frames
    "unibench": (
        ("convention=model",),
        [place * 119 // 31 for place in range(32)],
        (280, 392),
        16 * 10 * 14,
    ),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that grow brighter, so that each is another one."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(RATE))
        stream.width, stream.height = WIDTH, HEIGHT
        for number in range(FRAMES):
            frame = np.full((HEIGHT, WIDTH, 3), 2 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def cell(name: str) -> Cell:
    (config,) = compose_cells([*WORDS, *PROTOCOLS[name][0]], sweep=False)
    return cell_of(config)


def test_every_protocol_has_a_key_and_a_setting_of_its_own() -> None:
    cells = [cell(name) for name in PROTOCOLS]
    assert len({one.key for one in cells}) == len({one.setting for one in cells}) == len(PROTOCOLS)
    for one in cells:
        assert {"transformers", "qwen-vl-utils"} <= one.identity["video"]["readers"].keys()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_frames_pixels_and_tokens_read_back_are_those_made_by_hand(name: str, clip: Path) -> None:
    pytest.importorskip("qwen_vl_utils")
    from unibench.harness.child.clips import clip_of
    from unibench.models._videos import options_of, told

    _, frames, (height, width), tokens = PROTOCOLS[name]
    one = cell(name)
    assert one.benchmark is not None
    convention = one.benchmark.convention
    processor = processor_of(replace(one.config.model))
    shown = clip_of(str(clip), convention.sampling, processor)
    assert list(shown.numbers) == frames
    rules: dict[str, Any] = {**options_of(processor, convention.video), **told([shown])}
    video = np.stack([np.asarray(frame) for frame in shown])
    batch = processor(
        text=["<|vision_start|><|video_pad|><|vision_end|>what is it"],
        videos=[video],
        videos_kwargs={**rules, "do_sample_frames": False},
        return_tensors="pt",
    )
    steps = (len(frames) + 1) // 2
    assert batch["video_grid_thw"].tolist() == [[steps, height // 14, width // 14]]
    patches = steps * (height // 14) * (width // 14)
    assert tuple(batch["pixel_values_videos"].shape) == (patches, 3 * 2 * 14 * 14)
    placeholder = processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    assert int((batch["input_ids"] == placeholder).sum()) == tokens


def test_the_steps_of_a_thinned_video_stay_those_of_the_first_sampling(clip: Path) -> None:
    pytest.importorskip("qwen_vl_utils")
    from unibench.harness.child.clips import clip_of

    for name, rate in (("vidcom2", 2.0), ("unibench", 6.0)):
        one = cell(name)
        assert one.benchmark is not None
        sampling = one.benchmark.convention.sampling
        shown = clip_of(str(clip), sampling, processor_of(one.config.model))
        assert shown.metadata["fps"] == pytest.approx(rate)
        whole = 32 if name == "vidcom2" else FRAMES
        assert shown.metadata["total_num_frames"] == whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["video.frames=0"], "video.frames=0 is too small; at least 1"),
        (["video.fps=2", "video.frames=8", "convention=model"], "both say how many frames"),
        (["video.thin=8", "convention=model"], "video.thin=8 wants video.fps"),
        (["video.thin=8", "video.fps=2"], "add convention=model"),
        (["video.min_pixels=9", "video.max_pixels=3"], "is more than video.max_pixels=3"),
        (["video.reader=ffmpeg", "convention=model"], "video.reader"),
        (["harness=vlmevalkit", "video.frames=4"], "frames in the name of a data set"),
        (["task=pope", "harness=vlmevalkit", "video.frames=4"], "shows pictures"),
        (["model=llava_onevision_7b", "video.max_pixels=9999"], "have one size"),
        (["task=synthvideo", "harness=auto", "video.fps=2"], "has frames and no clock"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused_in_one_line(
    words: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as error:
        compose_cells([*WORDS, *words], sweep=False)
    assert "\n" not in str(error.value).strip()


def test_frames_are_taken_evenly_and_never_more_than_there_are() -> None:
    assert evenly(0, 11, 4) == [0, 3, 7, 11] and evenly(5, 9, 1) == [5]
    for total, count in ((120, 32), (9, 9), (100, 7)):
        expected = np.linspace(0, total - 1, count, dtype=int).tolist()
        assert evenly(0, total - 1, count) == expected
    assert taken(90, 30.0, {"fps": 2, "most": 4}) == 4 and taken(3, 30.0, {"fps": 2}) == 1
