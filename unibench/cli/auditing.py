"""``audit``: suspicious numbers in a table of results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unibench.audit import RULES, SEVERITIES, Finding, Sheet, fitted, folded, known, sheets
from unibench.audit import audit as findings
from unibench.audit.digits import Fitted
from unibench.cli.parser import Options
from unibench.errors import UsageError
from unibench.report import WRITERS, Block, Entry, Line, Table

KEPT = (
    "a number behind a method: the share or the number of tokens KEPT, as the table is printed; "
    "ratio elsewhere is the share removed."
)


def audit(options: Options) -> int:
    """``audit CSV|FOLDER [view=findings|columns] [format=md|tex|html|csv]``."""
    path = Path(options.path).expanduser()
    if not path.exists():
        raise UsageError(f"{path}: there is no such file or folder")
    tables = sheets(path)
    result = _columns(tables) if options.view == "columns" else _findings(tables, findings(tables))
    print(WRITERS[options.format](result), end="")
    return 0


def _findings(tables: Sequence[Sheet], found: Sequence[Finding]) -> Table:
    """A block for each table, the gravest finding first, and what the rules compare."""
    groups = folded(found)
    blocks = []
    for table in tables:
        own = [group for group in groups if group.first.table == table.name]
        lines = [Line((one.first.severity, one.first.rule, one.where, one.told), ()) for one in own]
        if lines:
            blocks.append(Block(table.name, tuple(lines)))
    numbers = sum(len(row.values) for table in tables for row in table.rows)
    grave = Counter(group.first.severity for group in groups)
    kinds = ", ".join(f"{grave[severity]} {severity}s" for severity in SEVERITIES)
    title = (
        f"{len(found)} findings in {numbers} numbers of {len(tables)} tables; equal ones folded,"
        f" {len(groups)}: {kinds}"
    )
    said = {finding.rule for finding in found}
    why = tuple(f"{name}: {rule.why}." for name, rule in RULES.items() if name in said)
    remarks = (KEPT, *why) if found else why
    return Table(
        "audit", title, ("severity", "rule", "where", "what"), (), tuple(blocks), remarks=remarks
    )


def _columns(tables: Sequence[Sheet]) -> Table:
    """Each column of scores against its number of questions."""
    heads = ("column", "questions", "source of n")
    columns = ("numbers that fit", "of", "by chance", "p (Holm)", "too few digits")
    exact = fitted(tables)
    blocks = []
    for table in tables:
        lines = [_fit(one) for one in exact if one.sheet is table]
        if lines:
            blocks.append(Block(table.name, tuple(lines)))
    remarks = tuple(
        f"Not tested, {questions.benchmark} {', '.join(questions.metrics)}: {questions.untestable}."
        for questions in dict.fromkeys(known().values())
        if questions.untestable
    )
    title = f"{len(exact)} columns of {len(tables)} tables against their numbers of questions"
    return Table("audit_columns", title, heads, columns, tuple(blocks), remarks=remarks)


def _fit(one: Fitted) -> Line:
    """A column of scores, and how well it fits a number of questions."""
    name = f"{one.version.name}{'' if one.certain else ' (uncertain)'}"
    texts = (
        *(str(one.count.fitting), str(one.count.cells), f"{one.count.expected:.1f}"),
        *(f"{one.p:.1g}", str(one.blunt)),
    )
    keys = (" ".join(one.column), f"{one.version.n:,}, {name}", one.version.source)
    return Line(keys, tuple(map(Entry, texts)))
