"""Kept tokens over the time of a video: the plot, and a strip of frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unibench.cli import main
from unibench.plots.overlay import film_strip
from unibench.plots.video import mean_shares

TINY = ("model=tiny_qwen2_5_vl", "task=synthvideo", "task.limit=2", "generation.max_new_tokens=2")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells and their vanilla, each of two questions about clips of which four frames are
    shown.
    """
    out = tmp_path_factory.mktemp("videos")
    words = [*TINY, "video.frames=4", "ratio=0.5", f"out={out}", "method=vidcom2,dycoke"]
    assert main(["-m", *words]) == 0
    return out


def rows(out: Path) -> dict[str, dict[str, object]]:
    found = [json.loads(file.read_text()) for file in out.rglob("metrics.json")]
    return {row["method"]: row for row in found}


def test_a_row_tells_frames_pixels_releases_and_tokens(results: Path) -> None:
    for method, row in rows(results).items():
        told = row["frames"]
        assert isinstance(told, dict)
        assert told["read"] == [4, 4] and told["frames"] == 4 and told["shown"] == "own"
        assert "transformers" in told["readers"]
        assert told["newlines"] == told["newlines_left"] == 0
        whole = row["tokens_in"]
        assert told["entering"] == told["leaving"] == (whole if method == "vanilla" else whole / 2)  # type: ignore[operator]
        ((patches, channels), _) = told["pixel_shapes"]
        # two frames of 14 x 14 patches and three colours; four patches are a token
        assert channels == 2 * 3 * 14 * 14 and patches == 4 * whole  # type: ignore[operator]


def test_frames_of_a_clip_are_taken_evenly_and_written_down(results: Path) -> None:
    for row in rows(results).values():
        lines = (Path(str(row["folder"])) / "samples.jsonl").read_text().splitlines()
        samples = [json.loads(line) for line in lines if not line.startswith('{"environment"')]
        assert [sample["frames"] for sample in samples] == [[[0, 2, 4, 7]]] * 2


def test_the_plot_has_a_line_for_each_method_and_the_overlay_is_a_strip(
    results: Path, tmp_path: Path
) -> None:
    plot, strip = tmp_path / "frames.svg", tmp_path / "strip.png"
    assert main(["plot", "frames", f"out={results}", f"to={plot}"]) == 0
    drawn = plot.read_text(encoding="utf-8")
    assert "vidcom2 0.5" in drawn and "dycoke 0.5" in drawn
    row = rows(results)["vidcom2"]
    shares = mean_shares([str(row["folder"])])
    # Qwen reads four frames as two
    assert len(shares) == 2 and sum(shares) / 2 == pytest.approx(0.5, abs=0.02)
    lines = (Path(str(row["folder"])) / "samples.jsonl").read_text().splitlines()
    sample = json.loads(lines[-1])["id"]
    assert main(["overlay", sample, f"out={results}", f"to={strip}"]) == 0
    assert Image.open(strip).size[0] > 100


def test_a_strip_has_a_row_for_each_method_and_time_from_left_to_right() -> None:
    bright, dark = Image.new("RGB", (100, 50), "white"), Image.new("RGB", (100, 50), "black")
    sheet = np.asarray(film_strip({"a": [bright, dark], "b": [dark, bright]}, side=50).convert("L"))
    middle = [sheet[16 + 12, 25], sheet[16 + 12, 52 + 25]]
    assert middle == [255, 0]
    below = 25 + 16 + 8  # a frame, a name and a gap
    assert [sheet[below + 16 + 12, 25], sheet[below + 16 + 12, 52 + 25]] == [0, 255]


def test_the_page_says_how_the_videos_of_a_cell_were_read(results: Path, tmp_path: Path) -> None:
    assert main(["report", "--html", f"out={results}", f"to={tmp_path / 'page'}"]) == 0
    told = [file.read_text("utf-8") for file in (tmp_path / "page" / "details").glob("cell*.js")]
    assert any('"videos":"shown own, frames 4, read [4, 4]' in one for one in told)
