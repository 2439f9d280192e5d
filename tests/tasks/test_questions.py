"""A task of one's own may yield anything: what cannot be asked and scored is named by its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unibench import UsageError
from unibench.cli import main
from unibench.config import TaskConfig
from unibench.runner.questions import samples_of
from unibench.tasks import Sample

GOOD = Sample("a", (Image.new("RGB", (28, 28)),), "What?", ("yes",), "all", "one")


class Yielding:
    """A task that yields what it is given, whatever the limit."""

    name, metric, max_new_tokens = "mine", "accuracy", 4

    def __init__(self, *samples: Any) -> None:
        self.found = samples

    def samples(self, limit: int | None = None) -> Iterator[Any]:
        yield from self.found

    def score(self, sample: Sample, answer: str) -> float:
        return 1.0


def asked(*samples: Any, limit: int | None = None) -> list[str]:
    config = TaskConfig(name="mine", limit=limit)
    return [sample.id for _, sample in samples_of(Yielding(*samples), config)]


def test_good_samples_are_asked_and_no_more_than_the_limit() -> None:
    other = replace(GOOD, id="b", images=())
    assert asked(GOOD, other) == ["a", "b"]
    assert asked(GOOD, other, limit=1) == ["a"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (GOOD, "samples 0 and 1, counted from 0, have one id, 'a'"),
        (replace(GOOD, id=""), "sample 1, counted from 0: id is ''"),
        (replace(GOOD, id=7), "id is 7, a text is wanted"),  # type: ignore[arg-type]
        (replace(GOOD, id="b", question=None), "question is None"),  # type: ignore[arg-type]
        (replace(GOOD, id="b", ability=None), "ability is None"),  # type: ignore[arg-type]
        (replace(GOOD, id="b", answers=()), "no answer to score against"),
        (replace(GOOD, id="b", answers=(None,)), "answers is"),  # type: ignore[arg-type]
        (replace(GOOD, id="b", answers=("",)), "answers is"),
        (replace(GOOD, id="b", answers="yes"), "answers is 'yes', a tuple"),  # type: ignore[arg-type]
        (replace(GOOD, id="b", images=("a.png",)), "pictures of PIL"),  # type: ignore[arg-type]
        ({"id": "b"}, "a dict, and no Sample"),
    ],
)
def test_what_is_no_sample_or_has_the_id_of_another_is_named(wrong: Any, said: str) -> None:
    with pytest.raises(UsageError, match="task mine.*") as caught:
        asked(GOOD, wrong)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_like_it\n", "line 1: import nothing_like_it: ModuleNotFoundError"),
        ("x = = 1\n", "line 1: x = = 1: invalid syntax"),
        ("COUNT = 1 / 0\n", "line 1: COUNT = 1 / 0: ZeroDivisionError"),
        (
            "class Mine:\n    metric, max_new_tokens = 'accuracy', 4\n    samples = score = print\n"
            "    def __init__(self):\n        {}['a']\n",
            "line 5: {}['a']: KeyError: 'a'",
        ),
    ],
)
def test_an_error_in_a_task_of_ones_own_begins_with_its_place(
    source: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(source)
    assert main(["plan", f"task={tmp_path / 'mine.py'}:Mine"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{tmp_path / 'mine.py'} {said}") and error.count("\n") == 1
