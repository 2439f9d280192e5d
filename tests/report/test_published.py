"""Every table of the papers, written in every format, read back by an independent parser, held
against the CSV files.
"""

from __future__ import annotations

import csv
import random
import shutil
import subprocess
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from tests.report.expecting import differences, expected
from tests.report.reading import READERS
from unibench.report import WRITERS, names, published
from unibench.report.published import FOLDER

TABLES = names()
BOLD = {
    f"idpruner_table{number}" for number in (1, 2, 5, 6)
}  # the papers set the best of a block in bold in these


def test_the_four_papers_are_complete() -> None:
    wanted = {("uniprunebench", 7), ("idpruner", 7), ("trimtokenator", 11), ("stp", 1)}
    assert set(TABLES) == {
        f"{paper}_table{k}" for paper, count in wanted for k in range(1, count + 1)
    } | {"stp_text_efficiency"}


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("name", TABLES)
def test_a_table_read_back_says_what_the_csv_file_says(name: str, form: str) -> None:
    assert (
        differences(READERS[form](WRITERS[form](published(name))), expected(FOLDER / f"{name}.csv"))
        == []
    )


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("name", TABLES)
def test_bold_is_the_best_of_its_block_where_the_paper_sets_it_so(name: str, form: str) -> None:
    read = READERS[form](WRITERS[form](published(name)))
    first = sum(title in ("method", "setting", "category") for title in read.titles)
    for _, group in groupby(read.lines, key=lambda line: line.block):
        lines = list(group)
        for place in range(first, len(read.titles)):
            shown = [line.cells[place] for line in lines if line.cells[place].text]
            assert not any(cell.underline for cell in shown)
            if name not in BOLD or len(lines) == 1:
                assert not any(cell.bold for cell in shown)
                continue
            highest = max(float(cell.text) for cell in shown)
            assert [cell.bold for cell in shown] == [float(cell.text) == highest for cell in shown]


@pytest.mark.parametrize("name", [f"uniprunebench_table{number}" for number in (2, 5, 6, 7)])
def test_changes_follow_from_the_values_above_them(name: str) -> None:
    lines = READERS["html"](WRITERS["html"](published(name))).lines
    vanilla = lines[0].cells
    assert sum(line.minor for line in lines) == sum(not line.minor for line in lines) - 1
    for above, line in pairwise(lines):
        for reference, value, change in zip(
            vanilla[2:], above.cells[2:], line.cells[2:], strict=True
        ):
            if line.minor and value.text:
                assert float(change.text) == pytest.approx(
                    100 * float(value.text) / float(reference.text) - 100, abs=0.0501
                )


def changed(folder: Path, name: str) -> Iterator[None]:
    """Change one cell of a CSV file after the other: every 7th value, some methods, notes and
    budgets.
    """
    path = folder / f"{name}.csv"
    with path.open(newline="", encoding="utf-8") as stream:
        records = list(csv.DictReader(stream))
    rng = random.Random(name)
    for key, value in (
        ("value", None),
        ("method", "stp"),
        ("note", "suspect"),
        ("benchmark", "gqa"),
        ("value", None),
        ("value", None),
    ):
        copies = [dict(record) for record in records]
        record = rng.choice(copies)
        record[key] = f"{float(record['value']) + 0.01:.2f}" if value is None else value
        if record in records:
            continue
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(record))
            writer.writeheader()
            writer.writerows(copies)
        yield


# by default a table of each paper, changed and written in every format; each file is read above
FIRST = ("uniprunebench_table1", "idpruner_table1", "trimtokenator_table1", "stp_table1")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FIRST else [pytest.mark.slow]) for name in TABLES],
)
def test_one_changed_cell_of_a_csv_file_is_noticed(name: str, tmp_path: Path) -> None:
    numbers = expected(FOLDER / f"{name}.csv")
    shutil.copy(FOLDER / "layouts.yaml", tmp_path)
    shutil.copy(FOLDER / f"{name}.csv", tmp_path)
    for number, _ in enumerate(changed(tmp_path, name)):
        own = tmp_path / str(number)
        shutil.copytree(tmp_path, own, ignore=shutil.ignore_patterns("[0-9]*"))
        for form, reader in READERS.items():
            assert differences(reader(WRITERS[form](published(name, own))), numbers)


def test_two_lines_that_change_places_are_noticed() -> None:
    read = READERS["md"](WRITERS["md"](published("idpruner_table3")))
    read.lines[2], read.lines[3] = read.lines[3], read.lines[2]
    assert differences(read, expected(FOLDER / "idpruner_table3.csv"))


@pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="no pdflatex here; the LaTeX reader of these tests parses strictly all the same",
)
def test_latex_compiles(tmp_path: Path) -> None:
    tables = "\n".join(WRITERS["tex"](published(name)) + "\\clearpage" for name in TABLES)
    head = "\\documentclass{article}\\usepackage[utf8]{inputenc}\\usepackage{booktabs}"
    document = f"{head}\\begin{{document}}\n{tables}\n\\end{{document}}\n"
    (tmp_path / "tables.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout[-3000:]
    assert f"({len(TABLES)} page" in (tmp_path / "tables.log").read_text(errors="replace")
