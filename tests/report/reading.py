"""Reads tables back from Markdown, LaTeX and HTML. Shares nothing with the writers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Cell:
    text: str
    bold: bool = False
    underline: bool = False
    marks: tuple[str, ...] = ()


@dataclass
class Line:
    block: str
    cells: list[Cell]
    minor: bool = False


@dataclass
class Read:
    titles: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


# -- Markdown


def read_markdown(text: str) -> Read:
    rows = [line.strip() for line in text.splitlines() if line.startswith("|")]
    found, block = Read(titles=[_plain(part) for part in _split(rows[0], "|")]), ""
    assert re.fullmatch(r"[|:\- ]+", rows[1])
    for row in rows[2:]:
        parts = _split(row, "|")
        assert len(parts) == len(found.titles), row
        if parts[0].startswith("**") and not any(parts[1:]):
            block = _plain(parts[0][2:-2])
            continue
        minor = parts[0].startswith("_")
        found.lines.append(Line(block, [_markdown_cell(part, minor) for part in parts], minor))
    for line in text.splitlines():
        if note := re.fullmatch(r"- <sup>(\w+)</sup> (.*)", line):
            found.notes[note[1]] = _plain(note[2])
        elif line.startswith("- "):
            found.remarks.append(_plain(line[2:]))
    return found


def _split(row: str, sign: str) -> list[str]:
    return [part.strip() for part in re.split(rf"(?<!\\)\{sign}", row)[1:-1]]


def _plain(text: str) -> str:
    return re.sub(r"\\([^\w\s]|_)", r"\1", text)


def _markdown_cell(text: str, minor: bool) -> Cell:
    marks: tuple[str, ...] = ()
    if found := re.fullmatch(r"(.*)<sup>([\w,]+)</sup>", text):
        text, marks = found[1], tuple(found[2].split(","))
    bold = len(text) > 4 and text.startswith("**") and text.endswith("**")
    underline = text.startswith("<u>")
    text = (
        text[2:-2] if bold else text[3:-4] if underline else text[1:-1] if minor and text else text
    )
    return Cell(_plain(text), bold, underline, marks)


# -- LaTeX

TEX = {
    r"\%": "%",
    r"\&": "&",
    r"\_": "_",
    r"\#": "#",
    r"\$": "$",
    "{\\textasteriskcentered}": "*",
    r"\ensuremath{\pm}": "±",
    r"\ensuremath{\lambda}": "λ",
}
PLAIN = re.compile(r"[^\\{}$&#^~]*")


def read_latex(text: str) -> Read:
    body = re.search(
        r"\\begin\{tabular\}\{([lr]+)\}\n\\toprule\n(.*?)\\bottomrule\n\\end\{tabular\}",
        text,
        re.DOTALL,
    )
    assert body is not None
    width = len(body[1])
    rows = [line for line in body[2].splitlines() if line != r"\midrule"]
    found, block = Read(titles=[_tex_plain(part) for part in _tex_split(rows[0], width)]), ""
    fresh = False
    for row in body[2].splitlines()[1:]:
        if row == r"\midrule":
            fresh, block = True, ""
        elif fresh and (
            label := re.fullmatch(
                rf"\\multicolumn\{{{width}\}}\{{l\}}\{{\\emph\{{(.*)\}}\}} \\\\", row
            )
        ):
            block = _tex_plain(label[1])
        else:
            cells = [_tex_cell(part) for part in _tex_split(row, width)]
            found.lines.append(Line(block, [cell for cell, _ in cells], cells[0][1]))
    below = text[body.end() :]
    for line in below.splitlines():
        if note := re.fullmatch(r"\\par\\raggedright\\textsuperscript\{(\w+)\} (.*)", line):
            found.notes[note[1]] = _tex_plain(note[2])
        elif line.startswith(r"\par\raggedright "):
            found.remarks.append(_tex_plain(line.removeprefix(r"\par\raggedright ")))
    return found


def _tex_split(row: str, width: int) -> list[str]:
    assert row.endswith(r" \\"), row
    parts = [part.strip() for part in re.split(r"(?<!\\)&", row[:-3])]
    assert len(parts) == width, row
    return parts


def _tex_plain(text: str) -> str:
    """Undo the escapes; anything that LaTeX would take for a command is an error."""
    for code, sign in TEX.items():
        text = text.replace(
            code, {"%": "\0p", "&": "\0a", "_": "\0u", "#": "\0h", "$": "\0d"}.get(sign, sign)
        )
    text = re.sub(r"\{\\textless\}", "<", re.sub(r"\{\\textgreater\}", ">", text))
    text = text.replace("{\\textendash}", "–").replace("{\\textquotesingle}", "'")
    assert PLAIN.fullmatch(text.replace("\0", "")), f"not plain: {text!r}"
    assert "%" not in text
    assert "_" not in text
    for code, sign in {"\0p": "%", "\0a": "&", "\0u": "_", "\0h": "#", "\0d": "$"}.items():
        text = text.replace(code, sign)
    return text


def _tex_cell(text: str) -> tuple[Cell, bool]:
    marks: tuple[str, ...] = ()
    if found := re.fullmatch(r"(.*)\\textsuperscript\{([\w,]+)\}", text):
        text, marks = found[1], tuple(found[2].split(","))
    style = re.fullmatch(r"\\(textbf|underline|textit)\{(.*)\}", text)
    kind = style[1] if style else ""
    return Cell(
        _tex_plain(style[2] if style else text), kind == "textbf", kind == "underline", marks
    ), kind == "textit"


# -- HTML


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found, self.block, self.tags = Read(), "", [""]
        self.cell: Cell | None = None
        self.row: list[Cell] = []
        self.kind, self.note, self.text = "", "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tbody":
            self.block = ""
        if tag == "tr":
            self.row, self.kind = [], dict(attrs).get("class") or ""
        if tag in ("td", "th"):
            self.cell = Cell("")
        if tag == "li":
            self.note, self.text = "", ""
        if self.cell is not None:
            self.cell.bold |= tag == "b"
            self.cell.underline |= tag == "u"

    def handle_data(self, data: str) -> None:
        if "li" in self.tags:
            if self.tags[-1] == "sup":
                self.note = data
            else:
                self.text += data
        elif self.cell is not None and self.tags[-1] == "sup":
            self.cell.marks = tuple(data.split(","))
        elif self.cell is not None:
            self.cell.text += data

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag
        if tag in ("td", "th") and self.cell is not None:
            self.row.append(self.cell)
            self.cell = None
        elif tag == "tr" and "thead" in self.tags:
            self.found.titles = [cell.text for cell in self.row]
        elif tag == "tr" and self.kind == "block":
            self.block = self.row[0].text
        elif tag == "tr":
            assert len(self.row) == len(self.found.titles)
            self.found.lines.append(Line(self.block, self.row, self.kind == "minor"))
        elif tag == "li" and self.note:
            self.found.notes[self.note] = self.text.strip()
        elif tag == "li":
            self.found.remarks.append(self.text.strip())


def read_html(text: str) -> Read:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.tags == [""]
    return reader.found


READERS = {"md": read_markdown, "tex": read_latex, "html": read_html}
