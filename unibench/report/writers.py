"""A table in Markdown, LaTeX, HTML or CSV, or on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

import jinja2
import pandas as pd
from markupsafe import Markup
from pylatexenc.latexencode import unicode_to_latex
from rich import box
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

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


# -- Markdown


def markdown(table: Table) -> str:
    """A pipe table; a block label is a line of its own in bold."""
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
        f"- {_md(remark)}" for remark in table.remarks
    ]
    return "\n".join([f"### {_md(table.title)}", "", grid, *([""] if below else []), *below, ""])


def _md(text: str) -> str:
    for sign in "\\|*<":
        text = text.replace(sign, f"\\{sign}")
    return text


def _set_markdown(text: str, entry: Entry, minor: bool) -> str:
    shown = _md(text)
    shown = (
        f"**{shown}**"
        if entry.bold
        else f"<u>{shown}</u>"
        if entry.underline
        else f"_{shown}_"
        if minor and shown
        else shown
    )
    return f"{shown}<sup>{','.join(entry.marks)}</sup>" if entry.marks else shown


# -- LaTeX


def latex(table: Table) -> str:
    r"""A ``table`` environment; it needs ``\usepackage{booktabs}``."""
    return str(
        _templates(tex=True)
        .get_template("table.tex.j2")
        .render(table=table, width=len(table.heads) + len(table.columns))
    )


def _tex(text: str) -> str:
    return str(unicode_to_latex(text, unknown_char_policy="fail"))


def _set_tex(text: str, entry: Entry, minor: bool) -> str:
    shown = _tex(text)
    command = (
        "textbf"
        if entry.bold
        else "underline"
        if entry.underline
        else "textit"
        if minor and shown
        else ""
    )
    shown = f"\\{command}{{{shown}}}" if command else shown
    return f"{shown}\\textsuperscript{{{','.join(entry.marks)}}}" if entry.marks else shown


# -- HTML


def html(table: Table) -> str:
    """A ``<table>`` with a body for each block, and a list of its notes."""
    return str(
        _templates(tex=False)
        .get_template("table.html.j2")
        .render(table=table, width=len(table.heads) + len(table.columns))
    )


def _set_html(text: str, entry: Entry, minor: bool) -> Markup:
    tag = "b" if entry.bold else "u" if entry.underline else "i" if minor and text else ""
    shown = Markup(f"<{tag}>{{}}</{tag}>").format(text) if tag else Markup("{}").format(text)
    return shown + Markup("<sup>{}</sup>").format(",".join(entry.marks)) if entry.marks else shown


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
    environment.filters.update(tex=_tex, cells=cells)
    environment.globals.update(set_tex=_set_tex, set_html=_set_html)
    return environment


# -- CSV


def csv(table: Table) -> str:
    """One line for each number: block, labels, column, value, bold, underline, and its notes in
    full.
    """
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
                records.append(
                    {"table": table.name, "block": block.label, **labels, "column": title, **found}
                )
    return str(pd.DataFrame(records).to_csv(index=False))


# -- terminal


def terminal(table: Table) -> RichTable:
    """For ``rich.console.Console.print``."""
    shown = RichTable(title=table.title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for title in table.heads:
        shown.add_column(title, justify="left" if title in LEFT else "right")
    for title in table.columns:
        shown.add_column(title, justify="right")
    for block in table.blocks:
        if block.label:
            shown.add_row(Text(block.label, style="italic"))
        for line in block.lines:
            shown.add_row(
                *(_rich(label, Entry()) for label in line.labels),
                *(_rich(entry.text, entry) for entry in line.entries),
            )
    return shown


def _rich(text: str, entry: Entry) -> Text:
    return Text(text, style="bold" if entry.bold else "underline" if entry.underline else "")


WRITERS: dict[str, Callable[[Table], str]] = {
    "md": markdown,
    "tex": latex,
    "html": html,
    "csv": csv,
}
