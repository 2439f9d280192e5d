"""Videos in a load, and vLLM's own pruning of them beside the plugin's methods."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serving.serving_environment import python
from tests.serving.test_load import Stub, serving
from unibench.cli import main
from unibench.errors import UsageError
from unibench.serving import bench
from unibench.serving.builtin import BUILTIN, VIDEOS, Own, of_videos
from unibench.serving.checkpoints import made
from unibench.serving.load import Ask, clip
from unibench.serving.settings import ARCHITECTURES
from unibench.tasks.synthvideo import SynthVideo

FRAMES = next(SynthVideo(frames=8).samples(1)).images
PREFIX = "data:video/jpeg;base64,"


def decoded(url: str) -> list[np.ndarray[Any, Any]]:
    """The frames of an address, taken apart as vLLM does it."""
    assert url.startswith(PREFIX)
    parts = url.removeprefix(PREFIX).split(",")
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in parts]


def checkpoint(folder: Path, architecture: str) -> Path:
    config = {"architectures": [architecture], "text_config": {"hidden_size": 64}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_video_is_sent_as_its_frames_and_no_two_of_a_load_are_one() -> None:
    frames = decoded(clip(FRAMES, 1, side=112))
    assert [frame.shape for frame in frames] == [(112, 112, 3)] * 8
    assert clip(FRAMES, 1) == clip(FRAMES, 1) != clip(FRAMES, 2)
    smaller = decoded(clip(FRAMES, 1, share=0.25))
    assert [frame.shape for frame in smaller] == [(112, 112, 3)] * 8


def test_the_mark_of_a_video_does_not_move_so_that_what_stands_still_stays_so() -> None:
    marks = [frame[:8, :8].astype(int) for frame in decoded(clip(FRAMES, 1))]
    assert all(abs(mark - marks[0]).mean() < 2 for mark in marks)
    assert abs(marks[0] - decoded(clip(FRAMES, 2))[0][:8, :8].astype(int)).mean() > 20


def test_a_request_shows_its_video_before_its_question_and_answers_to_the_end() -> None:
    body = json.loads(Ask("what moves ?", (), 4, (clip(FRAMES, 1),), whole=True).body())
    video, text = body["messages"][0]["content"]
    assert video["type"] == "video_url" and video["video_url"]["url"].startswith(PREFIX)
    assert text == {"type": "text", "text": "what moves ?"}
    assert body["min_tokens"] == body["max_tokens"] == 4
    assert "min_tokens" not in json.loads(Ask("what is red ?", (), 4).body())


def test_servers_of_a_video_load_show_no_pictures_unless_the_user_says_otherwise() -> None:
    told = of_videos(["--dtype", "float32"])
    limits = dict(zip(told[::2], told[1::2], strict=True))
    assert json.loads(limits["--limit-mm-per-prompt"]) == {"image": 0, "video": 1}
    # at a rate of its own: a video that is sent frame by frame has none
    assert json.loads(limits["--media-io-kwargs"])["video"]["fps"] == 2.0
    given = ["--limit-mm-per-prompt", '{"video":2}', "--media-io-kwargs", "{}"]
    assert of_videos(given) == given


def test_pruning_of_vllm_is_a_contender_at_each_ratio_with_the_arguments_of_its_server() -> None:
    names = ["evs", "vidcom2"]
    found = bench.contenders(["divprune"], ["0.5", "2/3"], resize=False, own=names)
    assert [one.name for one in found] == [
        *("vanilla", "divprune 0.5", "divprune 2of3"),
        *(f"vLLM {name} {ratio}" for name in names for ratio in ("0.5", "2of3")),
    ]
    own = found[-1].own
    assert own is not None and found[-1].settings is None
    assert own.arguments == (
        *("--video-pruning-rate", "0.666667"),
        *("--video-pruning-method", "vidcom2"),
    )


def test_contenders_are_asked_about_the_same_videos() -> None:
    contenders = [bench.Contender("vanilla"), bench.Contender("vLLM evs 0.5", own=EVS)]
    given = bench.Bench(contenders, [bench.Load("closed", 1)], requests=2, rounds=1, frames=8)
    with serving() as address:
        lines = given.run({one.name: address for one in contenders})
        rows = [request["messages"][0]["content"] for request in Stub.asked]
    assert [line.failed for line in lines] == [0, 0]
    assert rows[4:6] == rows[6:8] and rows[4] != rows[5]
    assert all(len(decoded(row[0]["video_url"]["url"])) == 8 for row in rows)


EVS = Own.of("evs", "0.5")


def test_the_page_says_that_rows_of_vllm_are_of_cost_alone(tmp_path: Path) -> None:
    contenders = [bench.Contender("vLLM evs 0.5", own=EVS)]
    given = bench.Bench(contenders, [bench.Load("closed", 1)], requests=1, rounds=1, frames=8)
    with serving() as address:
        lines = given.run({"vLLM evs 0.5": address})
    file = bench.kept(lines, given, "a stub", "the command", tmp_path)
    text = file.read_text()
    assert file.name == "video_load.md" and "# Load of videos of 8 frames" in text
    assert "rows of cost alone" in text and "every video is new" in text
    assert (tmp_path / "video_load.svg").exists()
    assert "cost alone" not in bench.page(lines, bench.Bench([], []), "", "")


QWEN25, QWEN3 = "Qwen2_5_VLForConditionalGeneration", "Qwen3VLForConditionalGeneration"


@pytest.mark.parametrize(
    ("architecture", "words", "reason"),
    [
        (QWEN25, ["builtin=evs"], "builtin=evs prunes videos alone: add frames=8"),
        (QWEN25, ["builtin=vidcom2", "frames=8"], "no such pruning; it has evs"),
        (QWEN25, ["builtin=evss", "frames=8"], "Did you mean evs?"),
        (QWEN25, ["builtin=evs", "frames=8", "ratio=0.889"], "of frames=8 no more than 0.75"),
        (QWEN25, ["builtin=evs", "frames=8", "ratio=0"], "which is vanilla"),
        (QWEN25, ["frames=7"], "frames of synthvideo: 7 given"),
        (QWEN25, ["frames=0"], "frames"),
        (QWEN25, ["method=evs"], "this prompt has no video"),
        (QWEN25, ["frames=8", "server=--video-pruning-rate 0.5"], "told to every server"),
        (QWEN25, ["frames=8", "server=--video_pruning_rate=0.5"], "told to every server"),
        (QWEN3, ["method=divprune", "frames=8"], "leaves videos of Qwen3VL"),
        (
            "Qwen2VLForConditionalGeneration",
            ["builtin=evs", "frames=8"],
            "it has none, and would prune none",
        ),
        ("LlavaForConditionalGeneration", ["frames=8"], "is not known to read videos"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line_before_a_server_is_started(
    architecture: str,
    words: Sequence[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def started(*arguments: Any) -> None:
        raise AssertionError("a server is started")

    monkeypatch.setattr(bench, "Server", started)
    folder = checkpoint(tmp_path, architecture)
    given = ["serve-bench", f"model={folder}", "ratio=0.5", f"out={tmp_path / 'out'}"]
    names = [word.partition("=")[0] for word in words]
    kept = [word for word in given if word.partition("=")[0] not in names]
    assert main([*kept, *words]) == 2
    said = capsys.readouterr().err.strip()
    assert reason in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_server_that_runs_already_prunes_as_it_was_started(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["serve-bench", "url=http://127.0.0.1:1/v1", "builtin=evs", "frames=8"]) == 2
    assert "leave builtin= out" in capsys.readouterr().err


def test_what_fits_is_let_through(tmp_path: Path) -> None:
    loads = [bench.Load("closed", 1)]
    both = bench.contenders(["divprune", "evs"], ["0.667"], resize=True, own=["evs"])
    bench.Bench(both, loads, frames=8).check(checkpoint(tmp_path, QWEN25), [])
    own = bench.contenders([], ["0.889"], resize=False, own=["vidcom2"])
    bench.Bench(own, loads, frames=8).check(checkpoint(tmp_path, QWEN3), [])
    pictures = bench.contenders(["divprune"], ["0.889"], resize=True)
    bench.Bench(pictures, loads).check(checkpoint(tmp_path, QWEN3), [])


def test_tables_of_architectures_name_those_that_the_plugin_has() -> None:
    assert set(BUILTIN) <= set(VIDEOS) <= set(ARCHITECTURES)
    with pytest.raises(UsageError, match="ratio"):
        Own.of("evs", "1.5")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "words", "names"),
    [
        ("qwen2_5_vl", ("method=divprune", "builtin=evs"), ("divprune 0.667", "vLLM evs 0.667")),
        ("qwen3_vl", ("builtin=vidcom2",), ("vLLM vidcom2 0.667",)),
    ],
)
def test_a_video_load_on_vllm_end_to_end(
    family: str, words: Sequence[str], names: Sequence[str], tmp_path: Path
) -> None:
    """Minutes: a server for each contender."""
    folder = made(family, tmp_path / "models")
    options = "--dtype float32 --enforce-eager --max-model-len 1024 --max-num-seqs 4"
    given = [f"model={folder}", f"python={python()}", f"server={options} --block-size 32"]
    given += ["ratio=0.667", "frames=8", "requests=2", "rounds=1", "concurrency=2", "wait=1800"]
    given += ["max_tokens=4", f"out={tmp_path / 'out'}", *words]
    assert main(["serve-bench", *given]) == 0
    rows = json.loads((tmp_path / "out" / "video_load.json").read_text())["lines"]
    found = {row["contender"]: row for row in rows}
    assert list(found) == ["vanilla", *names]
    assert all(row["failed"] == 0 and row["tokens"] == 4 for row in rows)
    # a client has seen first tokens, so that answers can be good
    assert all(row["ttft"]["p50"] > 0 for row in rows)
    # 8 frames are 4 of 64 tokens (256), or of 49; of which a third stays, and the text around it
    visual = 256 if family == "qwen2_5_vl" else 196
    for name in names:
        gone = found["vanilla"]["prompt"] - found[name]["prompt"]
        assert abs(gone - 0.667 * visual) <= 1, (name, gone)
