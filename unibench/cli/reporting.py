"""``report``: tables of the papers, and of one's own results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from unibench import report as reports
from unibench.errors import UsageError, unknown
from unibench.report.matching import Results, StandIn
from unibench.report.ours import Comparison
from unibench.report.published import rows, select

MODES = ("published", "ours", "difference")
OWN = ("paper", "table", "mode", "format", "out", "to", "view", "model", "task")


def report(words: Sequence[str]) -> int:
    """``report [paper=P table=K mode=published|ours|difference] [format=md|tex|html|csv] [out=outputs] [to=FOLDER]``."""
    given = _options(words)
    form = given.get("format", "md")
    if form not in reports.WRITERS:
        raise unknown("format", form, reports.WRITERS)
    if given.keys() & {"paper", "table", "mode"}:
        tables = _of_papers(given)
    else:
        tables = reports.grid(_frame(given), given.get("view", "tasks"))
    _emit(tables, form, given.get("to"))
    return 0
