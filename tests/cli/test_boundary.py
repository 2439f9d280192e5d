"""Whatever goes wrong is said in one line: a file that cannot be read, or a fault of unibench."""

from __future__ import annotations

import errno
import importlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import unibench
from unibench import UsageError
from unibench.cli import listing, main


def raising(error: Exception) -> Any:
    def function(options: Any) -> int:
        raise error

    return function


def test_a_file_that_cannot_be_read_is_a_mistake_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/data/questions.jsonl")
    monkeypatch.setattr(listing, "list_", raising(error))
    assert main(["list", "methods"]) == 2
    assert capsys.readouterr().err == "/data/questions.jsonl: Permission denied\n"


def test_a_fault_of_unibench_says_so_and_where_its_traceback_lies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(listing, "list_", raising(KeyError("nothing")))
    assert main(["list", "methods"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "unibench has a fault here" in said
    place = re.search(r"lies in (\S+)", said)
    assert place is not None and "KeyError: 'nothing'" in Path(place[1]).read_text()


@pytest.mark.parametrize(
    "words", [["report", "out=~nobody_at_all/x"], ["store", "list", "~nobody_at_all"]]
)
def test_the_folder_of_a_user_who_is_not_there_is_named(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "~nobody_at_all" in said and "no user" in said


def test_an_error_in_a_method_of_ones_own_begins_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def score(table):\n    return table[3]\n")
    space: dict[str, Any] = {}
    exec(compile(mine.read_text(), str(mine), "exec"), space)
    card = SimpleNamespace(path=mine, outside=True)
    work = importlib.import_module("unibench.runner.work")  # beside a function of that name
    monkeypatch.setattr(work, "parts_of", lambda method: (card,))
    cell: Any = SimpleNamespace(
        config=SimpleNamespace(method={}, task=SimpleNamespace(target=None))
    )
    with pytest.raises(KeyError) as caught:
        space["score"]({})
    line = work._line(caught.value, cell)
    assert line == f"{mine} line 2: return table[3]: KeyError: 3"


def test_a_model_is_loaded_by_its_name_or_the_nearest_one_is_named() -> None:
    with pytest.raises(UsageError, match="Did you mean tiny_qwen2_5_vl?"):
        unibench.load("tiny_qwen2_5_v")
    with pytest.raises(UsageError, match="unknown pixels of model tiny_qwen2_5_vl 'papr'"):
        unibench.load("tiny_qwen2_5_vl", pixels="papr")
    with pytest.raises(UsageError, match="load takes the name of a model or a ModelConfig, not 5"):
        unibench.load(5)  # type: ignore[arg-type]
