"""Where the output goes decides neither what is shown nor whether a command has failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from unibench.cli import terminal

COLUMNS = ("method", "ratio", "score", "95 %", "same budget as", "remark")
ROWS = (
    ("divprune", "0.889", "58.0", "51.5-63.5", "pre-LLM 0.889", "a remark " * 9),
    ("random_pre", "0.667", "61.5", "55.0-68.0", "pre-LLM 0.667", ""),
)


def table() -> Table:
    made = terminal.new_table("a title that is longer than any of the columns below it", COLUMNS)
    for row in ROWS:
        made.add_row(*row)
    return made


@pytest.mark.parametrize("width", [30, 40, 80, 120])
def test_every_value_is_whole_at_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "console", lambda: Console(width=width))
    monkeypatch.setattr(terminal, "NARROWEST", 12)
    terminal.print_table(table(), sentence=True)
    lines = capsys.readouterr().out.splitlines()
    shown = "\n".join(lines)
    assert "…" not in shown
    assert all(value in shown for row in ROWS for value in row[:5])
    assert all(len(line) <= max(width, 40) for line in lines[1:])


def test_a_table_that_is_too_wide_is_broken_with_its_keys_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "console", lambda: Console(width=40))
    terminal.print_table(table())
    shown = capsys.readouterr().out
    assert shown.count("a title") == 1 and shown.count("divprune") > 1
    assert shown.count("58.0") == shown.count("51.5-63.5") == 1


@pytest.mark.parametrize("sign", ["a", "\u5716", "\u00e9", "x\ny"], ids=ascii)
def test_a_table_is_set_as_rich_sets_it(sign: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = Table(box=box.SIMPLE, pad_edge=False)
    for name in COLUMNS:
        made.add_column(name, justify="left" if name in terminal.WORDS else "right")
    made.add_row("a block")
    for row in ROWS:
        made.add_row(*row[:-1], sign * 3)
    console = Console(width=500)
    with console.capture() as written:
        console.print(made)
    terminal.print_table(made)
    lines = [line.rstrip() for line in written.get().splitlines()]
    assert capsys.readouterr().out.splitlines() == lines


def test_without_a_terminal_nothing_is_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table(table(), sentence=True)
    terminal.console().print("word " * 100)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and len(lines[-1]) >= 499
    assert all(line == line.rstrip() for line in lines[:-1])


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = line.replace("unibench", f"{sys.executable} -m unibench", 1)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=folder, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("unibench list methods | head -n 1", 0, ""),
        ("unibench list methods --json | true", 0, ""),
        ("unibench list methods > /dev/full", 1, "standard output cannot be written: No space"),
        ("unibench list methods >&-", 0, ""),
        ("unibench list methods >&- <&-", 0, ""),
        ("unibench list method >&- 2>&-", 2, ""),
    ],
)
def test_an_output_that_takes_no_more_is_no_traceback(
    line: str, code: int, said: str, tmp_path: Path
) -> None:
    run = shell(line, tmp_path)
    assert (run.returncode, run.stderr.count("\n")) == (code, 1 if said else 0), run.stderr
    assert said in run.stderr


@pytest.mark.slow
def test_a_finished_cell_is_finished_wherever_its_tables_go(tmp_path: Path) -> None:
    cell = "unibench method=vanilla task.limit=1 out=o"
    first = shell(f"{cell} > /dev/full", tmp_path)
    assert first.returncode == 0 and "standard output cannot be written" in first.stderr
    assert len(list(tmp_path.rglob("metrics.json"))) == 1
    for place in ("> /dev/full", ">&-", "| head -n 1"):
        again = shell(f"{cell} {place}", tmp_path)
        assert again.returncode == 0 and "Traceback" not in again.stderr, again.stderr
