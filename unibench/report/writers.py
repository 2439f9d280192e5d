"""A table in Markdown, LaTeX, HTML or CSV, or on a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, Protocol

import jinja2
from markupsafe import Markup
from pylatexenc.latexencode import UnicodeToLatexEncoder
from rich import box
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from unibench.errors import shown
from unibench.report.table import Entry, Line, Table

LEFT = ("method", "setting", "category")  # the other heads are numbers


class Setting(Protocol):
    """How a format sets one cell."""

    def __call__(self, text: str, entry: Entry, minor: bool) -> str: ...


def cells(line: Line, setting: Setting) -> list[str]:
    """The labels and numbers of a line as a format writes them; the notes of a line stand at its
    first label.
    """
    first, *labels = line.labels
    named = [
        setting(first, Entry(marks=line.marks), line.minor),
        *(setting(label, Entry(), line.minor) for label in labels),
    ]
    return named + [setting(entry.text, entry, line.minor) for entry in line.entries]


def plain(content: Any) -> Any:
    """A table, or a part of one, whose texts are single lines that cannot act on a terminal."""
    if isinstance(content, str):
        return shown(content)
    if isinstance(content, tuple):
        return tuple(map(plain, content))
    if isinstance(content, Mapping):
        return {key: plain(value) for key, value in content.items()}
    if is_dataclass(content) and not isinstance(content, type):
        values = {field.name: getattr(content, field.name) for field in fields(content)}
        return replace(content, **{name: plain(value) for name, value in values.items()})
    return content


# -- Markdown


def markdown(table: Table) -> str:
    """A pipe table; a block label is a line of its own in bold."""
    table = plain(table)
    width = len(table.heads) + len(table.columns)
    body: list[list[str]] = []
    for block in table.blocks:
        body += [[f"**{_md(block.label)}**", *[""] * (width - 1)]] if block.label else []
        body += [cells(line, _set_markdown) for line in block.lines]
    align = ["left"] * len(table.heads) + ["right"] * len(table.columns)
    grid = tabulate(
        body,
        [_md(title) for title in table.heads + table.columns],
        tablefmt="pipe",
        colalign=align,
        disable_numparse=True,
    )
    below = [f"- <sup>{letter}</sup> {_md(note)}" for letter, note in table.notes.items()] + [
        f"- {_md_line(remark)}" for remark in table.remarks
    ]
    return "\n".join(
        [f"### {_md_line(table.title)}", "", grid, *([""] if below else []), *below, ""]
    )


def _md(text: str) -> str:
    """A text that stands for itself: no markup, link, tag, entity or formula.

    >>> _md("fastv+layer_3 [x](http://y) $z$ &lt; __a__")
    'fastv+layer_3 \\\\[x\\\\](http://y) \\\\$z\\\\$ \\\\&lt; \\\\_\\\\_a\\\\_\\\\_'
    """
    # an underscore inside a word is one; at its edge it would begin or end italics
    return re.sub(r"[\\|*<>`\[\]$&~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)


def _md_line(text: str) -> str:
    """The same where a line begins: no heading, list or rule."""
    return re.sub(r"^(\d*)([#+=.)-])", r"\1\\\2", _md(text))


def _set_markdown(text: str, entry: Entry, minor: bool) -> str:
    set_ = _md(text)
    if entry.bold:
        set_ = f"**{set_}**"
    elif entry.underline:
        set_ = f"<u>{set_}</u>"
    elif minor and set_:
        set_ = f"_{set_}_"
    return f"{set_}<sup>{','.join(entry.marks)}</sup>" if entry.marks else set_


# -- LaTeX


def latex(table: Table) -> str:
    r"""A ``table`` environment; it needs ``\usepackage{booktabs}``."""
    table = plain(table)
    return str(
        _templates(tex=True)
        .get_template("table.tex.j2")
        .render(table=table, width=len(table.heads) + len(table.columns))
    )


def _tex(text: str) -> str:
    """A text that stands for itself; a character that LaTeX has no command for by its number.

    >>> _tex("50 % of a_b"), _tex(chr(0x1F600)), _tex("[a] *")
    ('50 \\\\% of a\\\\_b', '{\\\\ttfamily U+1F600}', '{[}a] *')
    """
    encoder = UnicodeToLatexEncoder(
        unknown_char_policy=lambda sign: f"{{\\ttfamily U+{ord(sign):04X}}}",
        unknown_char_warning=False,
    )
    # where a row begins, the end of the row above would take [ or * for its own argument
    return re.sub(r"^[\[*]", r"{\g<0>}", str(encoder.unicode_to_latex(text)))


def _tex_label(name: str) -> str:
    """A name that may stand in ``\\label``, where no command is one."""
    return re.sub(r"[^A-Za-z0-9_:.+=@-]", "-", name)


def _set_tex(text: str, entry: Entry, minor: bool) -> str:
    set_ = _tex(text)
    command = (
        "textbf"
        if entry.bold
        else "underline"
        if entry.underline
        else "textit"
        if minor and set_
        else ""
    )
    set_ = f"\\{command}{{{set_}}}" if command else set_
    return f"{set_}\\textsuperscript{{{','.join(entry.marks)}}}" if entry.marks else set_


# -- HTML


def html(table: Table) -> str:
    """A ``<table>`` with a body for each block, and a list of its notes."""
    table = plain(table)
    return str(
        _templates(tex=False)
        .get_template("table.html.j2")
        .render(table=table, width=len(table.heads) + len(table.columns))
    )


def _set_html(text: str, entry: Entry, minor: bool) -> Markup:
    tag = "b" if entry.bold else "u" if entry.underline else "i" if minor and text else ""
    set_ = Markup(f"<{tag}>{{}}</{tag}>" if tag else "{}").format(text)
    return set_ + Markup("<sup>{}</sup>").format(",".join(entry.marks)) if entry.marks else set_


@cache
def _templates(tex: bool) -> jinja2.Environment:
    """Templates; those for LaTeX leave single braces alone."""
    environment = jinja2.Environment(
        block_start_string="\\BLOCK{" if tex else "{%",
        block_end_string="}" if tex else "%}",
        variable_start_string="\\VAR{" if tex else "{{",
        variable_end_string="}" if tex else "}}",
        loader=jinja2.PackageLoader("unibench.report"),
        autoescape=not tex,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(tex=_tex, cells=cells, label=_tex_label)
    environment.globals.update(set_tex=_set_tex, set_html=_set_html)
    return environment


# -- CSV


def csv(table: Table) -> str:
    """One line for each number: block, labels, column, value, bold, underline, and its notes in
    full.
    """
    import pandas as pd  # half of what a table of a paper takes to print

    table = plain(table)
    records = []
    for block in table.blocks:
        for line in block.lines:
            for title, entry in zip(table.columns, line.entries, strict=True):
                notes = "; ".join(table.notes[letter] for letter in line.marks + entry.marks)
                labels = dict(zip(table.heads, line.labels, strict=True))
                found = {
                    "value": entry.text,
                    "bold": int(entry.bold),
                    "underline": int(entry.underline),
                    "note": notes,
                }
                line_of = {"table": table.name, "block": block.label, **labels, "column": title}
                records.append(
                    {name: _defused(text) for name, text in {**line_of, **found}.items()}
                )
    return str(pd.DataFrame(records).to_csv(index=False))


def _defused(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay what they are.

    >>> _defused("=1+1"), _defused("-0.5"), _defused("-"), _defused("+cmd")
    ("'=1+1", '-0.5', '-', "'+cmd")
    """
    if not isinstance(value, str):
        return value
    number = re.fullmatch(r"[+-]?\d*\.?\d*(e[+-]?\d+)?", value.strip(), re.IGNORECASE)
    return f"'{value}" if value.lstrip()[:1] in tuple("=+-@") and not number else value


# -- terminal


def terminal(table: Table) -> RichTable:
    """For ``rich.console.Console.print``."""
    table = plain(table)
    made = RichTable(title=table.title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for title in table.heads:
        made.add_column(title, justify="left" if title in LEFT else "right")
    for title in table.columns:
        made.add_column(title, justify="right")
    for block in table.blocks:
        if block.label:
            made.add_row(Text(block.label, style="italic"))  # a label across all columns
        for line in block.lines:
            made.add_row(
                *(_rich(label, Entry()) for label in line.labels),
                *(_rich(entry.text, entry) for entry in line.entries),
            )
    return made


def _rich(text: str, entry: Entry) -> Text:
    return Text(text, style="bold" if entry.bold else "underline" if entry.underline else "")


WRITERS: dict[str, Callable[[Table], str]] = {
    "md": markdown,
    "tex": latex,
    "html": html,
    "csv": csv,
}
