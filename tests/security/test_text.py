"""Names from stores are text: for a terminal, a log, Markdown, LaTeX, CSV, HTML and SVG."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import markdown_it
import pytest

from tests.security._stores import reseal
from tests.stats._cells import finished
from unibench.cli import main
from unibench.cli.terminal import Terminal
from unibench.errors import lines_shown, shown
from unibench.report import WRITERS, Block, Entry, Line, Table
from unibench.report.writers import terminal
from unibench.store import cells_below

NAMES = (
    "[/red]", "[bold]x[/bold]", ":skull:", "a\x1b[31mb", "\x1b]0;title\x07", "\x9b2J", "\u202egnp.exe", "two\nlines",
    "tab\there", "\x00", "|", "**bold**", "_it_", "__init__", "`code`", "[x](http://y)", "![x](y)", "<b>x</b>", "&lt;",
    "<!-- -->", "$x$", "~~no~~", "# head", "---", "\\", "=1+1", "+1", "@SUM(A1)", "-cmd|' /C calc'!A0", "\t=1", "'=1",
    "\U0001f600", "\u0645\u0631\u062d\u0628\u0627", "\u65e5\u672c", "%", "#", "{}", "\\write18{touch x}", "^^5c", "\ufeff",
    "]]>", '"', "a,b",
    "*a", "[3pt]",
)  # fmt: skip


def table(name: str) -> Table:
    line = Line((name, name), (Entry("-0.5"), Entry("+1.25", bold=True, marks=("a",))))
    return Table(
        name,
        name,
        ("method", "what"),
        (name, "number"),
        (Block(name, (line,)),),
        {"a": name},
        (name,),
    )


def test_the_terminal_shows_names_as_they_are() -> None:
    for name in NAMES:
        out = io.StringIO()
        console = Terminal(file=out, width=400)
        console.print(name)
        console.print(terminal(table(name)))
        said = out.getvalue()
        assert all(sign.isprintable() or sign == "\n" for sign in said), name
        assert lines_shown(name).strip() in said


class Texts(HTMLParser):
    """Elements, and the text of each cell, of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@pytest.mark.parametrize("form", ["md", "html"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_markdown_or_html_is_only_text(name: str, form: str) -> None:
    text = WRITERS[form](table(name))
    if form == "md":
        text = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(text)
    found = Texts(text)
    own = {"table", "thead", "tbody", "tr", "th", "td", "h3", "ul", "li", "sup", "strong", "b", "caption", "p", "ol", "section", "h2"}  # fmt: skip
    assert found.tags <= own, found.tags - own
    assert sum(shown(name).strip() == cell.strip() for cell in found.cells) >= 3, found.cells


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_spreadsheet_is_no_formula(name: str) -> None:
    (line,) = list(csv.DictReader(io.StringIO(WRITERS["csv"](table(name)))))[:1]
    assert line["value"] == "-0.5"
    for key in ("table", "block", "method", "what", "column"):
        cell = line[key]
        assert cell.lstrip()[:1] not in tuple("=@") and cell.isprintable()
        assert cell.lstrip()[:1] not in tuple("+-") or re.fullmatch(r"[+-]\d*|---", cell)
        assert cell.removeprefix("'") == shown(name).removeprefix("'")


@pytest.mark.parametrize("name", NAMES)
def test_latex_takes_any_name(name: str) -> None:
    text = WRITERS["tex"](table(name))
    assert text.isascii() and "\\write18" not in text and "^^5c" not in text
    assert text.count("\\begin{tabular}") == 1
    # the end of a row takes what follows it for its argument
    assert not re.search(r"^\s*[\[*]", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_sets_every_name(tmp_path: Path) -> None:
    tables = "\n".join(WRITERS["tex"](table(name)) for name in NAMES)
    head = "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,textcomp,amssymb}\\extrafloats{200}"
    (tmp_path / "x.tex").write_text(f"{head}\\begin{{document}}{tables}\\end{{document}}")
    ran = subprocess.run(
        ["pdflatex", "-halt-on-error", "-no-shell-escape", "x.tex"],
        cwd=tmp_path,
        capture_output=True,
    )
    assert ran.returncode == 0, ran.stdout[-2000:]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A store whose rows have names that act."""
    out = tmp_path / "out"
    finished(out, [1.0, 1.0, 0.0, 0.0], "method=vanilla")
    finished(out, [1.0, 0.0, 1.0, 0.0], "method=divprune", "ratio=0.75")
    for cell in cells_below(out):
        row = json.loads((cell / "metrics.json").read_text())
        row |= {
            "model": "[/red]\x1b[31m$x$",
            "task": "<b>&\n|",
            "device": "=1+1",
            "variant": "\u202e[bold]",
        }
        (cell / "metrics.json").write_text(json.dumps(row))
        reseal(cell)
    return out


def test_no_verb_prints_what_acts(
    hostile: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for words in (
        ["report"], ["report", "format=tex"], ["report", "format=csv"], ["report", "format=html"],
        ["compare", "divprune", "vanilla"], ["recommend", "--max-drop", "99"], ["report", "model=x"],
        ["report", "--html", f"to={tmp_path / 'page'}"], ["plot", "bars", f"to={tmp_path / 'bars.svg'}"],
    ):  # fmt: skip
        assert main([*words, f"out={hostile}"]) in (0, 2), words
        said = "".join(capsys.readouterr())
        assert all(sign.isprintable() or sign == "\n" for sign in said), words
    text = (tmp_path / "bars.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg") and "\x1b" not in text


def test_logs_show_control_characters_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["list", "methods"])
    logging.getLogger("unibench.x").warning("a\x1b[31mb")
    logged = [
        handler.formatter for handler in logging.getLogger("unibench").handlers if handler.formatter
    ]
    record = logging.LogRecord("unibench.x", logging.WARNING, "", 0, "a\x1b[31m\u202eb", None, None)
    assert [formatter.format(record) for formatter in logged] == [r"a\x1b[31m\u202eb"] * len(logged)
    assert main(["report", f"out={tmp_path}/\x1b[31m"]) == 2
    assert "\x1b" not in capsys.readouterr().err
