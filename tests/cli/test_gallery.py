"""The gallery shows every picture once, with all that is asked about it."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from unibench.cli import main
from unibench.tasks.synthvqa import SynthVQA


@pytest.mark.parametrize(("variant", "images"), [("single", 1), ("pair", 2)])
def test_the_page_holds_pictures_and_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], variant: str, images: int
) -> None:
    file = tmp_path / "page.html"
    assert main(["gallery", str(file), "pictures=3", f"variant={variant}"]) == 0
    assert "3 pictures" in capsys.readouterr().out
    text = file.read_text()
    shown = re.findall(r"base64,([^\"]+)", text)
    samples = list(SynthVQA(variant=variant, size=15).samples())
    assert len(shown) == 3 * images
    assert text.count("<dt>") == len(samples)
    assert all(f"<b>{sample.answers[0]}</b>" in text for sample in samples)
    first = Image.open(io.BytesIO(base64.b64decode(shown[0])))
    assert first.tobytes() == samples[0].images[0].tobytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "gallery what? FILE.html is missing"),
        (["a.html", "splt=dev"], "split"),
        (["a.html", "pictures=many"], "a whole number"),
        (["a.html", f"pictures={10**30}"], "is too large; at most 1000000000000000"),
        (["a.html", f"pictures={'9' * 5000}"], "is too large; at most 1000000000000000"),
        (["a.html", "split=train"], "combinations, dev, test"),
        (["missing/folder/a.html", "pictures=1"], "cannot write missing/folder/a.html"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["gallery", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
