"""easyvqa reads the package, in the official splits, and says how to get it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from PIL import Image

from unibench import UsageError
from unibench.tasks.easyvqa import SIDE, EasyVQA

ASKED = [
    ("what color is the shape?", "teal", 0),
    ("is there a circle?", "no", 0),
    ("what is the blue shape?", "triangle", 1),
]


@pytest.fixture
def package(tmp_path, monkeypatch) -> None:
    """A package with two pictures and three questions."""
    for number, color in enumerate(("teal", "blue")):
        Image.new("RGB", (64, 64), color).save(tmp_path / f"{number}.png")
    module = ModuleType("easy_vqa")
    module.get_test_questions = lambda: tuple(map(list, zip(*ASKED, strict=True)))
    module.get_test_image_paths = lambda: {i: str(tmp_path / f"{i}.png") for i in range(2)}
    monkeypatch.setitem(sys.modules, "easy_vqa", module)


def test_each_picture_is_asked_once_before_one_is_asked_again(package) -> None:
    samples = list(EasyVQA().samples())
    assert [s.question for s in samples] == [ASKED[0][0], ASKED[2][0], ASKED[1][0]]
    assert [s.ability for s in samples] == ["color", "shape", "yes_no"]
    assert [s.group for s in samples] == ["easyvqa-test-0", "easyvqa-test-1", "easyvqa-test-0"]
    assert samples[0].images[0].size == (SIDE, SIDE)
    assert [s.id for s in EasyVQA().samples(1)] == [samples[0].id]


def test_an_answer_is_the_data_sets_word(package) -> None:
    task = EasyVQA()
    sample = next(task.samples(1))
    assert [task.score(sample, given) for given in ("teal", " Teal\n", "blue")] == [1, 1, 0]


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(UsageError, match="pip install easy-vqa==1.0"):
        EasyVQA()


def test_an_unknown_split_is_refused_first(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(UsageError, match="split of easyvqa"):
        EasyVQA(split="validation")
