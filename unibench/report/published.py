"""The numbers that the papers print, read from ``results/published``."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unibench.errors import UsageError, unknown
from unibench.paths import part

if TYPE_CHECKING:
    import pandas as pd

FOLDER = part("published")
COLUMNS = (
    "paper", "table", "model", "method", "category", "retention", "kept_tokens", "pruning_ratio",
    "benchmark", "metric", "value", "std", "harness", "note",
)  # fmt: skip
MORE = "\0more"  # what a line has beyond the head
SETTING = re.compile(r"ablation\d+: .+|importance: \w+|[\w -]+=\S+")

Column = tuple[str, str]  # benchmark, metric


@dataclass(frozen=True)
class Value:
    """A printed number.

    Attributes:
        text: as printed.
        spread: printed standard deviation, or empty.
        notes: what has to be said about it.
    """

    text: str
    spread: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A printed line.

    Attributes:
        model: the paper's, as in the CSV files.
        method: as in the CSV files; ``pre+intra`` for two stages.
        category: the paper's own grouping.
        retention: share of visual tokens kept, as written; empty where the paper does not say.
        kept: number of tokens kept, as written; may be empty.
        setting: parameters that set the line apart, as written (``lambda=0.5``).
        harness: as in the CSV files.
        values: by column, in the order of the paper.
    """

    model: str
    method: str
    category: str
    retention: str
    kept: str
    setting: tuple[str, ...]
    harness: str
    values: dict[Column, Value]

    @cached_property
    def duplicate(self) -> bool:
        """The paper prints this line a second time."""
        return any(
            note.startswith("DUPLICATE") for value in self.values.values() for note in value.notes
        )


def names(folder: Path = FOLDER) -> list[str]:
    """Every table, in the order of papers and numbers.

    Raises:
        UsageError: the folder holds none; an installed package comes without it.
    """
    found = sorted((path.stem for path in folder.glob("*.csv")), key=_order)
    if not found:
        raise UsageError(
            f"{folder} holds no tables; the published numbers come with the repository, not with"
            " the installed package"
        )
    return found


def _order(name: str) -> tuple[int, str, int, str]:
    paper, _, table = name.partition("_")
    papers = ("uniprunebench", "idpruner", "trimtokenator", "stp")
    number = re.sub(r"\D", "", table)
    return (
        papers.index(paper) if paper in papers else len(papers),
        paper,
        int(number) if number else 1000,
        table,
    )


def select(paper: str | None, table: str | None, folder: Path = FOLDER) -> list[str]:
    """Names of the tables of a paper and number; None or ``all`` take every one.

    Raises:
        UsageError: no such paper or table.
    """
    known = names(folder)
    papers = list(dict.fromkeys(name.partition("_")[0] for name in known))
    if paper not in (None, "all") and paper not in papers:
        raise unknown("paper", str(paper), papers)
    mine = [name for name in known if paper in (None, "all") or name.partition("_")[0] == paper]
    if table in (None, "all"):
        return mine
    chosen = [name for name in mine if table in (_short(name), name)]
    if not chosen:
        raise unknown(
            f"table of {paper or 'any paper'}", str(table), {_short(name) for name in mine}
        )
    return chosen


def _short(name: str) -> str:
    """``1`` of ``stp_table1``, ``text_efficiency`` of ``stp_text_efficiency``."""
    return name.partition("_")[2].removeprefix("table")


def read(path: Path) -> pd.DataFrame:
    """The records of a CSV file as a frame.

    Raises:
        UsageError: as :func:`records_of`.
    """
    import pandas as pd  # which the tables of the papers do without

    return pd.DataFrame(records_of(path))


def records_of(path: Path) -> list[dict[str, str]]:
    """The records of a CSV file of published numbers, every field a text.

    Raises:
        UsageError: it is none.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restkey=MORE, restval="", strict=True)
            records = list(reader)
            names = reader.fieldnames or []
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}") from None
    if missing := [name for name in COLUMNS if name not in names]:
        raise UsageError(
            f"{path} has no column {', '.join(missing)}; a table of results has"
            f" {', '.join(COLUMNS)}"
        )
    for record in records:
        if MORE in record:
            raise UsageError(f"{path} cannot be read as CSV: a line has more fields than its head")
    return records


@cache
def rows(name: str, folder: Path = FOLDER) -> tuple[Row, ...]:
    """The lines of a table, in the order of the paper."""
    return tuple(lines_of(records_of(folder / f"{name}.csv")))


def lines_of(records: Sequence[Mapping[Any, str]]) -> Iterator[Row]:
    """Join the values of each line: a line ends where its labels change or a column comes again."""
    row: Row | None = None
    for record in records:
        pieces = [piece for piece in record["note"].split("; ") if piece]
        setting = tuple(piece for piece in pieces if SETTING.fullmatch(piece))
        notes = tuple(piece for piece in pieces if piece not in setting)
        labels = (
            record["model"],
            record["method"],
            record["category"],
            record["retention"],
            record["kept_tokens"],
            setting,
        )
        column = (record["benchmark"], record["metric"])
        fresh = Row(
            *labels, record["harness"], {column: Value(record["value"], record["std"], notes)}
        )
        if (
            row is not None
            and replace(row, values={}) == replace(fresh, values={})
            and column not in row.values
        ):
            row.values.update(fresh.values)
            continue
        if row is not None:
            yield row
        row = fresh
    if row is not None:
        yield row
