"""Each method against the best control at its budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from unibench.comparison.against import Against
from unibench.frame import conditions, labels, whole
from unibench.report.table import Block, Entry, Line, Table

MARK = "c"
NOTE = (
    "not better than the best control at its budget: the paired 95 % interval of the difference"
    " reaches 0, or too few pictures differ for a test to be sure"
)
COLUMNS = (
    *("score", "best control", "its score", "difference", "95 %", "won", "lost"),
    "beats it",
)


def controls(frame: pd.DataFrame, found: Mapping[str, Against]) -> list[Table]:
    """A table of the differences, with a block for each model, task and setting; none where no
    method has a control.

    Args:
        frame: finished cells with seeds joined.
        found: of :func:`unibench.comparison.against.against`.
    """
    blocks = []
    for label, part in conditions(whole(frame)):
        for task, here in part.groupby("task", sort=False):
            apart = labels(here, "setting")
            for setting, group in here.groupby("setting", sort=False):
                lines = [
                    _line(record, found[record["series"]])
                    for record in group.to_dict("records")
                    if record["series"] in found
                ]
                place = ", ".join(filter(None, (f"{label} on {task}", apart[str(setting)])))
                blocks += [Block(place, tuple(lines))] if lines else []
    if not blocks:
        return []
    remarks = (
        (
            "best control: the highest score among what spends the same budget without looking (a"
            " smaller picture, pooling, random choice) and questions asked without their picture."
        ),
        "difference: method minus control in points of 100, with its paired 95 % interval"
        " (bootstrap over pictures); won, lost: samples that the method scores higher, and lower.",
    )
    title = "methods against the best control"
    heads = ("method", "ratio")
    # the mark is explained where a line has it
    notes = {MARK: NOTE} if any(line.marks for block in blocks for line in block.lines) else {}
    return [Table("controls", title, heads, COLUMNS, tuple(blocks), notes, remarks=remarks)]


def _line(record: Mapping[Any, Any], one: Against) -> Line:
    result = one.result
    texts = (
        f"{100 * result.second:.1f}",
        one.control,
        f"{100 * result.first:.1f}",
        f"{100 * result.difference:+.1f}",
        f"{100 * result.low:+.1f} to {100 * result.high:+.1f}",
        str(result.won),
        str(result.lost),
        "yes" if one.beaten else "no",
    )
    name = f"{record['method']} {record['variant']}".strip()
    labels = name, str(record["budget"])
    return Line(labels, tuple(map(Entry, texts)), () if one.beaten else (MARK,))
