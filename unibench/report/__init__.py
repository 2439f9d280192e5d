"""Tables: of the papers, and of one's own results."""

from __future__ import annotations

from unibench.report.arrange import Names as Names
from unibench.report.arrange import arranged as arranged
from unibench.report.cells import details as details
from unibench.report.controls import controls as controls
from unibench.report.grid import grid as grid
from unibench.report.groups import groups as groups
from unibench.report.matching import Results as Results
from unibench.report.matching import StandIn as StandIn
from unibench.report.ours import Comparison as Comparison
from unibench.report.ours import filled as filled
from unibench.report.overlap import diagnostics as diagnostics
from unibench.report.pairs import beyond as beyond
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
