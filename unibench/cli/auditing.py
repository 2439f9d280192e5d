"""``audit``: suspicious numbers in a table of results."""

from __future__ import annotations

from pathlib import Path

from unibench.audit import audit as findings
from unibench.audit import sheets
from unibench.cli.parser import Options
from unibench.errors import UsageError
from unibench.report import WRITERS, Block, Line, Table


def audit(options: Options) -> int:
    """``audit CSV|FOLDER [format=md|tex|html|csv]``."""
    path = Path(options.path).expanduser()
    if not path.exists():
        raise UsageError(f"{path}: there is no such file or folder")
    tables = sheets(path)
    found = findings(tables)
    blocks = []
    for table in tables:
        own = [finding for finding in found if finding.table == table.name]
        lines = [Line((finding.rule, finding.where, finding.told), ()) for finding in own]
        if lines:
            blocks.append(Block(table.name, tuple(lines)))
    numbers = sum(len(row.values) for table in tables for row in table.rows)
    title = f"{len(found)} findings in {numbers} numbers of {len(tables)} tables"
    result = Table("audit", title, ("rule", "where", "what"), (), tuple(blocks))
    print(WRITERS[options.format](result), end="")
    return 0
