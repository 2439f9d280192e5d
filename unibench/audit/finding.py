"""What an audit says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unibench.audit.rules import RULES, SEVERITIES, Severity


@dataclass(frozen=True)
class Finding:
    """Something in a table that should be looked at.

    Attributes:
        rule: which rule says so.
        table: name of the table.
        where: lines and columns.
        told: one sentence with the numbers.
        cells: (line, benchmark, metric) of the numbers in question, lines counted from 0.
    """

    rule: str
    table: str
    where: str
    told: str
    cells: frozenset[tuple[int, str, str]]

    @property
    def severity(self) -> Severity:
        """That of its rule."""
        return RULES[self.rule].severity


@dataclass(frozen=True)
class Folded:
    """Equal findings.

    Attributes:
        findings: at least one; the first stands for all.
    """

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The finding that is shown."""
        return self.findings[0]

    @property
    def where(self) -> str:
        """Every place of the first one's table."""
        own = [one.where for one in self.findings if one.table == self.first.table]
        return " / ".join(dict.fromkeys(own))

    @property
    def told(self) -> str:
        """The sentence, how often it holds in the table, and the other tables that repeat it."""
        told = self.first.told
        own = sum(one.table == self.first.table for one in self.findings)
        others = dict.fromkeys(one.table for one in self.findings)
        others.pop(self.first.table)
        if own > 1:
            told += f" ({own} times)"
        return f"{told}; also in {', '.join(others)}" if others else told


def folded(findings: Sequence[Finding]) -> list[Folded]:
    """Equal findings together, in each table the gravest first.

    Equal are findings of one rule that say the same of one table, or of the same place in
    another table.
    """
    groups: list[list[Finding]] = []
    for one in findings:
        for group in groups:
            head = group[0]
            same = (one.rule, one.told) == (head.rule, head.told)
            if same and (one.table == head.table or one.where == head.where):
                group.append(one)
                break
        else:
            groups.append([one])
    tables = {name: place for place, name in enumerate(dict.fromkeys(f.table for f in findings))}
    return sorted(
        (Folded(tuple(group)) for group in groups),
        key=lambda one: (tables[one.first.table], SEVERITIES.index(one.first.severity)),
    )
