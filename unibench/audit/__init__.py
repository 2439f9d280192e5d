"""The audit: what in a table of results should be looked at. Rules know no paper, table or cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from unibench.audit.arithmetic import averages, changes, ratios, sums
from unibench.audit.copies import copies
from unibench.audit.digits import fitted as fitted
from unibench.audit.digits import granularity, two_readers
from unibench.audit.elsewhere import disagreements, swaps
from unibench.audit.finding import Finding as Finding
from unibench.audit.finding import folded as folded
from unibench.audit.questions import known as known
from unibench.audit.rules import RULES as RULES
from unibench.audit.rules import SEVERITIES as SEVERITIES
from unibench.audit.sheet import Sheet as Sheet
from unibench.audit.sheet import sheet_of as sheet_of
from unibench.audit.sheet import sheets as sheets
from unibench.audit.steps import subsets
from unibench.audit.values import above_vanilla, below_random, cliffs, gaps, impossible, rises

WITHIN: tuple[Callable[[Sheet], Iterator[Finding]], ...] = (
    averages, sums, ratios, changes, copies, impossible, above_vanilla, rises, below_random, cliffs,
    two_readers, subsets, gaps,
)  # fmt: skip
BETWEEN: tuple[Callable[[Sequence[Sheet]], Iterator[Finding]], ...] = (
    granularity, disagreements, swaps,
)  # fmt: skip


def audit(tables: Sequence[Sheet]) -> list[Finding]:
    """Everything that the rules find in tables, table by table."""
    found = [finding for table in tables for rule in WITHIN for finding in rule(table)]
    found += [finding for rule in BETWEEN for finding in rule(tables)]
    order = {table.name: place for place, table in enumerate(tables)}
    return sorted(found, key=lambda finding: order[finding.table])
