"""Tables: of the papers, and of one's own results.

What one's own results need is imported when it is used: the tables of the papers are printed
without pandas, which takes as long to load as all of the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unibench.report.paper import published as published
from unibench.report.published import names as names
from unibench.report.published import rows as rows
from unibench.report.published import select as select
from unibench.report.table import Block as Block
from unibench.report.table import Entry as Entry
from unibench.report.table import Line as Line
from unibench.report.table import Table as Table
from unibench.report.writers import WRITERS as WRITERS
from unibench.report.writers import terminal as terminal

if TYPE_CHECKING:
    from unibench.report.arrange import Names as Names
    from unibench.report.arrange import arranged as arranged
    from unibench.report.by_group import groups as groups
    from unibench.report.cells import details as details
    from unibench.report.matching import Results as Results
    from unibench.report.matching import StandIn as StandIn
    from unibench.report.ours import Comparison as Comparison
    from unibench.report.ours import filled as filled
    from unibench.report.over_control import controls as controls
    from unibench.report.overlap import diagnostics as diagnostics
    from unibench.report.own import OWN_TABLES as OWN_TABLES
    from unibench.report.own import grid as grid
    from unibench.report.pairs import beyond as beyond

# no module has the name of a function that another one defines: importing it would hide that
_HOME = {
    "Names": "arrange",
    "arranged": "arrange",
    "groups": "by_group",
    "details": "cells",
    "Results": "matching",
    "StandIn": "matching",
    "Comparison": "ours",
    "filled": "ours",
    "controls": "over_control",
    "diagnostics": "overlap",
    "OWN_TABLES": "own",
    "grid": "own",
    "beyond": "pairs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
