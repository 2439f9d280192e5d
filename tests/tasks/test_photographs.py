"""photographs shows what scikit-image ships, and says how to get it."""

from __future__ import annotations

import sys

import pytest

from unibench import UsageError
from unibench.tasks.photographs import PHOTOGRAPHS, Photographs


def test_each_picture_is_there_and_asked_about_in_turns() -> None:
    pytest.importorskip("skimage", reason=f"{Photographs.name} needs scikit-image")
    samples = list(Photographs().samples())
    assert len({sample.id for sample in samples}) == Photographs.limit == 3 * len(PHOTOGRAPHS)
    first = samples[: len(PHOTOGRAPHS)]
    assert len({sample.group for sample in first}) == len(PHOTOGRAPHS)
    for sample in samples:
        (picture,) = sample.images
        assert picture.mode == "RGB" and min(picture.size) >= 300
        assert sample.ability in Photographs.abilities
    (horse,) = {sample.images[0].getpixel((0, 0)) for sample in samples if sample.group == "horse"}
    assert horse == (255, 255, 255), "its ground is transparent"


def test_an_accepted_word_anywhere_counts() -> None:
    pytest.importorskip("skimage", reason=f"{Photographs.name} needs scikit-image")
    task = Photographs()
    (sample,) = (one for one in task.samples() if one.id == "photographs-chelsea-thing")
    assert [task.score(sample, said) for said in ("A Cat.", "kitten", "category")] == [1, 1, 0]


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UsageError, match="pip install scikit-image==0.26.0"):
        Photographs()
