"""A table that knows nothing of its format: what every writer takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Source:
    """What a score of one's own was measured on.

    Attributes:
        score: out of 100.
        folders: of its cells, one for each seed.
        ability: that it covers.
        low, high: its 95 % interval, where it has one.
        drop: against vanilla in per cent, where that is known.
    """

    score: float
    folders: tuple[str, ...]
    ability: str
    low: float | None = None
    high: float | None = None
    drop: float | None = None


@dataclass(frozen=True)
class Entry:
    """One number as it is shown.

    Attributes:
        text: the number; empty where there is none.
        bold: the best of its block.
        underline: the second.
        marks: letters of the notes that belong to it.
        source: of a score of one's own; no format shows it.
    """

    text: str = ""
    bold: bool = False
    underline: bool = False
    marks: tuple[str, ...] = ()
    source: Source | None = None


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        labels: as many as the table has heads.
        entries: as many as it has columns.
        marks: letters of the notes that belong to all entries.
        minor: set small: it follows from the line above.
    """

    labels: tuple[str, ...]
    entries: tuple[Entry, ...]
    marks: tuple[str, ...] = ()
    minor: bool = False


@dataclass(frozen=True)
class Block:
    """Lines below a common label; an empty label is not shown."""

    label: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: for files and references, for example ``uniprunebench_table1``.
        title: one line.
        heads: titles of the label columns, on the left.
        columns: titles of the numbers' columns.
        blocks: from top to bottom.
        notes: letter -> what the entries and lines marked with it need said.
        remarks: sentences on the whole table.
    """

    name: str
    title: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    blocks: tuple[Block, ...]
    notes: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for block in self.blocks:
            for line in block.lines:
                if (len(line.labels), len(line.entries)) != (len(self.heads), len(self.columns)):
                    raise ValueError(
                        f"{self.name}: line {line.labels} does not fit the columns"
                        f" {self.heads + self.columns}"
                    )
