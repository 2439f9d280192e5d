"""``plot``, ``overlay`` and ``analyze`` from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.page._results import hostile
from tests.stats._cells import finished
from unibench import frame as frames
from unibench.cli import main
from unibench.cli.plotting import _labels, _names, _of_sample
from unibench.plots.overlay import GAP, SIDE


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, two ratios; random twice at one of them."""
    out = tmp_path_factory.mktemp("results")
    finished(out, [1.0] * 8, "method=vanilla")
    for ratio, right in (("0.667", 7), ("0.889", 5)):
        finished(out, [1.0] * right + [0.0] * (8 - right), "method=divprune", f"ratio={ratio}")
    for seed in (0, 1):
        finished(out, [1.0, 0.0] * 4, "method=random_pre", "ratio=0.889", f"seed={seed}")
    return out


@pytest.mark.parametrize(
    "words",
    [
        ["ratio"],
        ["pareto", "cost=tflops"],
        ["bars"],
        ["heat", "value=drop_pct"],
        ["size", "budget=0.889"],
    ],
)
def test_a_plot_is_written_where_the_user_says(
    words: list[str], results: Path, tmp_path: Path
) -> None:
    place = tmp_path / "new" / f"{words[0]}.svg"
    assert main(["plot", *words, f"out={results}", f"to={place}"]) == 0
    assert place.read_text().count("<svg") == 1


def test_an_overlay_stands_under_the_name_of_its_method(tmp_path: Path) -> None:
    out, place = hostile(tmp_path), tmp_path / "seen.png"
    assert main(["overlay", "s0001", f"out={out}", f"to={place}"]) == 0
    sheet = np.asarray(Image.open(place).convert("L"))
    assert sheet.shape == (16 + SIDE + GAP, 4 * SIDE + 3 * GAP)
    # vanilla, dart, divprune, fastv
    for number, share in enumerate((1.0, 0.25, 0.25, 0.25)):
        left = number * (SIDE + GAP)
        bright = sheet[16 : 16 + SIDE, left : left + SIDE] == 255
        assert bright.mean() == pytest.approx(share) and bright[SIDE // 2 :, : SIDE // 2].all()


def test_scores_are_shown_of_the_cells_that_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, place = hostile(tmp_path), tmp_path / "scores.png"
    words = ["overlay", "s0001", f"out={out}", f"to={place}", "show=scores"]
    assert main(words) == 0
    assert Image.open(place).size == (SIDE, 16 + SIDE + GAP)  # of dart alone
    capsys.readouterr()
    assert main([*words, "show=score"]) == 2
    assert "Did you mean scores?" in capsys.readouterr().err
    assert main([*words, "method=divprune"]) == 2
    assert "a run with scores=true keeps them" in capsys.readouterr().err
    assert main(["overlay", "s0001", f"out={out}", f"to={tmp_path / 'o.svg'}"]) == 2
    assert "pictures are written as png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plot"], "plot what? KIND is missing"),
        (["plot", "pareto_front"], "Did you mean pareto?"),
        (["plot", "pareto", "cost=prefil_ms"], "Did you mean prefill_ms?"),
        (["plot", "radar"], "several values of budget: 0.667, 0.889; choose one with budget=0.667"),
        (["plot", "ratio", "task=synthvq"], "Did you mean synthvqa?"),
        (["plot", "ratio", "csot=tflops"], "Did you mean cost?"),
        (["plot", "ratio", "to=x.gif"], "Known: pdf, png, svg"),
        (["plot", "ranks", "budget=0.889"], "three methods on two tasks"),
        (["overlay"], "overlay what? SAMPLE is missing"),
        (["overlay", "s9999"], "unknown sample"),
        (["analyze"], "analyze what? STUDY is missing"),
        (["analyze", "tradeof"], "Did you mean tradeoff?"),
        (["analyze", "angles", "task=mme"], "its harness keeps the pictures"),
        (["analyze", "tradeoff", "importance=randm"], "randm"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [] if words[0] == "analyze" or len(words) == 1 else [f"out={results}"]
    assert main([*words, *where]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_seeds_of_a_method_are_told_apart(results: Path) -> None:
    cells = frames.load(results).query("ability == 'all' and main")
    assert sorted(_names(cells)) == [
        "divprune 0.667",
        "divprune 0.889",
        "random_pre 0.889 seed 0",
        "random_pre 0.889 seed 1",
        "vanilla 0",
    ]


def test_the_sample_chooses_its_task_and_the_label_says_how_much_was_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    main(["method=divprune", "ratio=0.889", "task.limit=1", f"out={out}"])
    finished(out, [1.0, 0.0], "method=vanilla", task="pope")
    cells = frames.whole(frames.load(out))
    sample = "test-single-50000000-existence"
    assert cells["task"].nunique() == 2
    own = _of_sample(cells, sample)
    assert set(own["task"]) == {"synthvqa"}
    assert sorted(_labels(own, sample)) == ["divprune 0.889: 16 of 144", "vanilla 0: 144 of 144"]
    assert main(["overlay", sample, f"out={out}", f"to={tmp_path / 'o.png'}"]) == 0
