"""A task of one's own: one class in one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from unibench import UsageError, registry
from unibench.compose import compose_cells, options
from unibench.errors import UsageErrors
from unibench.identity import Cell, cell_of
from unibench.runner.embedded import load_task

SOURCE = '''
from PIL import Image

from unibench.tasks import Sample


class Colours:
    """What colour a picture has."""

    metric = "accuracy"
    max_new_tokens = 4
    limit = 3

    def __init__(self, *, side: int = 64) -> None:
        self.side = side

    def samples(self, limit=None):
        for name in ("red", "blue", "green", "white")[:limit]:
            image = Image.new("RGB", (self.side, self.side), name)
            yield Sample(name, (image,), "Which colour?", (name,), "colour", name)

    def score(self, sample, answer):
        return float(answer.strip() in sample.answers)
'''


def written(folder: Path, source: str = SOURCE) -> str:
    file = folder / "mine.py"
    file.write_text(source, encoding="utf-8")
    return f"task={file}:Colours"


def composed(*words: str) -> Cell:
    (config,) = compose_cells(["model=tiny_llava", *words], sweep=False)
    return cell_of(config)


def test_a_file_is_a_task_with_its_own_limit_and_options(tmp_path: Path) -> None:
    cell = composed(written(tmp_path), "+task.options.side=32")
    assert (cell.config.task.name, cell.config.task.limit) == ("colours", 3)
    task = load_task(cell)
    assert [sample.images[0].width for sample in task.samples(cell.config.task.limit)] == [32] * 3
    assert task.score(next(iter(task.samples())), " red ") == 1.0


def test_an_edit_of_what_it_asks_changes_the_key_and_its_docstring_does_not(tmp_path: Path) -> None:
    words = written(tmp_path)
    key = composed(words).key
    written(tmp_path, SOURCE.replace("What colour a picture has", "The colour"))
    assert composed(words).key == key
    written(tmp_path, SOURCE.replace('"white"', '"black"'))
    assert composed(words).key != key


@pytest.mark.parametrize(
    ("words", "source", "said"),
    [
        (["+task.options.size=1"], SOURCE, "'size'.*side"),
        ([], SOURCE.replace("def score", "def scored"), "Colours is no task; it lacks score"),
        ([], SOURCE.replace("max_new_tokens = 4", ""), "no max_new_tokens"),
        ([], SOURCE.replace("class Colours", "class Colour"), "no class 'Colours'.*Colour"),
        ([], SOURCE + "\n1 / 0\n", "line 25: 1 / 0: ZeroDivisionError"),
    ],
)
def test_what_is_no_task_is_refused_with_its_place(
    tmp_path: Path, words: list[str], source: str, said: str
) -> None:
    with pytest.raises((UsageError, UsageErrors), match=said):
        composed(written(tmp_path, source), *words)


def test_the_repository_s_own_are_found_by_their_modules() -> None:
    assert {"synthvqa", "folder"} <= registry.tasks().keys() <= set(options("task"))
    assert registry.tasks()["synthvqa"].target == "unibench.tasks.synthvqa:SynthVQA"
    assert registry.tasks()["synthvqa"].limit == 200
