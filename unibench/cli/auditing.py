"""``audit``: what in a table of results should be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unibench.audit import audit as findings
from unibench.audit import sheets
from unibench.errors import UsageError, unknown
from unibench.report import WRITERS, Block, Line, Table


def audit(words: Sequence[str]) -> int:
    """``audit CSV|FOLDER [format=md|tex|html|csv]``."""
    options: dict[str, str] = {
        key: value for key, _, value in (word.partition("=") for word in words) if value
    }
    paths = [Path(word) for word in words if "=" not in word]
    if len(paths) != 1 or options.keys() - {"format"}:
        raise UsageError(
            "audit what? python -m unibench audit <file.csv or folder> [format=md|tex|html|csv]"
        )
    if not paths[0].exists():
        raise UsageError(f"{paths[0]}: there is no such file or folder")
    form = options.get("format", "md")
    if form not in WRITERS:
        raise unknown("format", form, WRITERS)
    tables = sheets(paths[0])
    found = findings(tables)
    numbers = sum(len(row.values) for table in tables for row in table.rows)
    blocks = tuple(
        Block(
            table.name,
            tuple(
                Line((one.rule, one.where, one.told), ())
                for one in found
                if one.table == table.name
            ),
        )
        for table in tables
        if any(one.table == table.name for one in found)
    )
    title = f"{len(found)} findings in {numbers} numbers of {len(tables)} tables"
    print(WRITERS[form](Table("audit", title, ("rule", "where", "what"), (), blocks)), end="")
    return 0
