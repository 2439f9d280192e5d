"""What `new` writes passes the linter and its own test."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unibench import UsageError
from unibench.kit import QUICK, method_in, task_in, try_rule
from unibench.kit.skeleton import FORMS, NEEDS, Form, new
from unibench.paths import PACKAGE
from unibench.pruning import Family

WORDS = [(), *((word,) for word in NEEDS), ("vit-attention", "text")]
DEFAULT = [("score", ("vit-attention",))]


def named(form: str, words: tuple[str, ...]) -> str:
    return "_".join([form, *words, "method"]).replace("-", "_")


def class_of(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("authors")
    for form, words in itertools.product(FORMS, WORDS):
        new("method", named(form, words), place, needs=words, form=form)  # type: ignore[arg-type]
    new("task", "my_colours", place)
    return place


def test_every_skeleton_passes_the_linter_and_the_formatter(folder: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed beside this Python")
    for words in (["check"], ["format", "--check"]):
        config = ["--config", str(PACKAGE.parent / "pyproject.toml")]
        done = subprocess.run(
            [str(ruff), *words, *config, str(folder)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (form, words) if (form, words) in DEFAULT
        else pytest.param(form, words, marks=pytest.mark.slow)
        for form, words in itertools.product(FORMS, WORDS)
    ],
)  # fmt: skip
def test_every_skeleton_passes_its_own_test(
    folder: Path, form: Form, words: tuple[str, ...]
) -> None:
    name = named(form, words)
    for rule in QUICK:
        try_rule(method_in(folder / f"{name}.py", class_of(name)), rule)


def test_a_skeleton_of_a_task_scores_its_own_answers(folder: Path) -> None:
    task = task_in(folder / "my_colours.py", "MyColours")
    samples = list(task.samples())
    assert samples == list(task.samples()) or [one.id for one in samples]
    assert all(task.score(one, answer) == 1 for one in samples for answer in one.answers)


def test_a_skeleton_of_a_family_serves_its_own_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.setattr("unibench.kit.skeleton.PACKAGE", tmp_path)
    written = new("family", "my_model", tmp_path, like="qwen2_5_vl")
    assert written.files[0] == tmp_path / "models" / "my_model.py"
    found: dict[str, Any] = {"__name__": "my_model"}
    exec(compile(written.files[0].read_text(), "my_model.py", "exec"), found)
    assert found["MyModel"].model_types == ("my_model",)
    assert issubclass(found["MyModel"], Family)


@pytest.mark.parametrize(
    ("name", "words"),
    [("divprune", "there is a method"), ("Mine", "snake case"), ("two words", "snake case")],
)
def test_a_name_that_cannot_be_is_refused(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        new("method", name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_not_written_over(folder: Path) -> None:
    with pytest.raises(UsageError, match="is there already"):
        new("task", "my_colours", folder)
    with pytest.raises(UsageError, match="vit-attention"):
        new("method", "other", folder, needs=["vit-attention", "saliency"])
