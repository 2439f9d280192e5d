"""``report`` and ``audit`` as commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.stats._cells import finished
from unibench.cli import main, parsers
from unibench.frame import FILTERS
from unibench.report.published import FOLDER


def test_one_command_writes_every_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("md", "tex", "html", "csv"):
        assert main(["report", "paper=all", f"format={form}", f"to={tmp_path}"]) == 0
    assert len(list(tmp_path.iterdir())) == 4 * 27 + 1
    page = (tmp_path / "idpruner_table1.html").read_text()
    assert page.startswith("<!doctype html>") and '<meta charset="utf-8">' in page
    assert (tmp_path / "index.html").read_text().count("<a href=") == 27
    assert f"27 tables in {tmp_path}" in capsys.readouterr().out


def test_a_filter_takes_several_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("vanilla", "divprune", "fastv", "dart"):
        finished(tmp_path, [1.0] * 4, f"method={method}")
    assert main(["report", f"out={tmp_path}", "method=divprune,fastv"]) == 0
    out = capsys.readouterr().out
    assert "divprune" in out and "fastv" in out and "dart" not in out


def test_one_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "paper=uniprunebench", "table=1", "mode=published"]) == 0
    assert "| 44.3 ± 1.8 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["report", "paper=uniprunbench"], "Did you mean uniprunebench?"),
        (["report", "paper=stp", "table=7"], "unknown table of stp '7'"),
        (["report", "paper=stp", "format=pdf"], "unknown format 'pdf'"),
        (["report", "paper=stp", "mode=our"], "Did you mean ours?"),
        (["report", "stp"], "report takes no 'stp'; for example"),
        (["report", "papr=stp"], "Did you mean paper?"),
        (["report", "out=/no/such/folder"], "there is no such folder"),
        (["audit"], "audit what?"),
        (["audit", "/no/such.csv"], "there is no such file or folder"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_csv_file_is_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(FOLDER / "as_printed" / "uniprunebench_table5.csv", tmp_path)
    assert main(["audit", str(tmp_path)]) == 0
    assert "printed 70.02, mean of the columns 72.24" in capsys.readouterr().out


def test_a_csv_file_that_is_no_table_of_results_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    assert main(["audit", str(tmp_path / "x.csv")]) == 2
    assert "has no column paper" in capsys.readouterr().err


def test_the_parsers_know_every_filter_of_the_frame() -> None:
    assert set(parsers.FILTERS) == {*FILTERS, "ratio"}  # ratio is budget as the user writes it
