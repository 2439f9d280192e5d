"""A real tiny model, asked where it is known whether a smaller picture or a method must win."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unibench import frame
from unibench.cli import main
from unibench.comparison.against import Against, against

HERE = Path(__file__).parent / "_known.py"
CORNER = f"{HERE}:Corner"


def outcome(name: str, method: str, out: Path) -> Against:
    """The method against the best control, on 60 questions at a quarter of the tokens."""
    words = [f"task={HERE}:{name}", "task.limit=60", "ratio=0.75", f"out={out}"]
    words += ["model=tiny_qwen2_5_vl", "timing=false"]
    assert main([f"method={method}", *words]) == 0
    assert main(["control=resize", *words]) == 0
    lines = frame.over_seeds(frame.whole(frame.load(out)), intervals=False)
    (found,) = against(lines).values()
    return found


@pytest.mark.slow
def test_an_enlarged_picture_is_best_made_smaller_and_the_report_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = outcome("Enlarged", "keep_borders", tmp_path)
    assert found.control == "resize" and found.result.high < 0
    capsys.readouterr()
    assert main(["report", f"out={tmp_path}"]) == 0
    said = capsys.readouterr().out
    score = re.escape(f"{100 * found.result.second:.1f}")  # it may be bold or underlined too
    assert re.search(rf"{score}[^|]*<sup>c</sup>", said) and " no |" in said


@pytest.mark.slow
def test_a_method_that_keeps_the_only_corner_with_anything_in_it_beats_every_control(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = outcome("Cornered", CORNER, tmp_path)
    assert found.control == "resize" and found.beaten
    capsys.readouterr()
    assert main(["report", f"out={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "<sup>c</sup>" not in said and " yes |" in said
