"""A method against the trivial ways to spend its budget: the difference to the best control."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from unibench import frame, registry
from unibench.errors import UsageError
from unibench.inference.row import columns
from unibench.stats.interval import DRAWS
from unibench.stats.paired import Paired, paired

# the picture or video itself, to at most the budget's tokens
SMALLER = ("resize", "centre_crop", "fewer_frames")
UNSEEING = ("pooling", "uniform_grid", "random_pre")  # methods that look at no token
LIKE = "random_like"
BLIND = ("blind", "blind_grey", "blind_other")
CONTROLS = (*SMALLER, *UNSEEING, LIKE, *BLIND)
"""What a method must beat. ``resize_blur``, which reads every token, and ``resize_divisor`` and
``native_budget``, which leave another share of each picture, have no budget in common with a
method."""
APART = ("vanilla", "resize_blur", "resize_divisor", "native_budget")
PLACE = columns("setting", "metric")
BUDGET = columns("budget", "budget_scope")  # a control spends it at once, whatever its mode

Line = Mapping[Any, Any]  # of the frame, seeds joined


@dataclass(frozen=True)
class Against:
    """A method against the best control at its budget, on the samples that both answered.

    Attributes:
        control: name of the control.
        result: paired; ``first`` is the control, ``second`` the method.
    """

    control: str
    result: Paired

    @property
    def beaten(self) -> bool:
        """Whether the method is better beyond doubt."""
        return self.result.sure and self.result.difference > 0


def against(lines: pd.DataFrame) -> dict[str, Against]:
    """The best control for each method that has one, by the hash of the method's series.

    Args:
        lines: of :func:`unibench.frame.whole`, seeds joined.

    Returns:
        The control of the highest score among those of the same setting and budget; ``blind`` and
        its like stand beside every budget. Methods whose samples are gone are left out.
    """
    found: dict[str, Against] = {}
    for _, group in lines.groupby(list(PLACE), sort=False):
        records = group.to_dict("records")
        controls = [line for line in records if line["method"] in CONTROLS]
        for line in records if controls else ():
            if line["method"] in CONTROLS or not _is_method(line):
                continue
            beside = [one for one in controls if stands_beside(one, line)]
            if not beside:
                continue
            best = max(beside, key=lambda one: float(one["score_100"]))
            if (result := in_common(best, line)) is not None:
                found[str(line["series"])] = Against(named(best), result)
    return found


def _is_method(line: Line) -> bool:
    return line["method"] not in APART


def stands_beside(control: Line, line: Line) -> bool:
    """Whether a control has the budget of a method, or none, and is meant for it."""
    if control["method"] in BLIND:
        return True
    if any(control[name] != line[name] for name in BUDGET):
        return False
    return control["method"] != LIKE or _like(control, line)


def named(control: Line) -> str:
    """A control as tables name it; ``random_like`` without the method beside which it stands."""
    if control["method"] == LIKE:
        return LIKE
    return " ".join(part for part in (control["method"], control["variant"]) if part)


def _like(control: Line, line: Line) -> bool:
    """Whether ``random_like`` was made for the very method of a line."""
    if control["budget_mode"] != line["budget_mode"]:
        return False
    parameters = json.loads(control["params"])
    options = parameters.get("options") or {}
    # by name among the methods that are here: to ask a file that a stored row names would run it
    card = registry.methods().get(str(parameters.get("inner")))
    if card is None or not isinstance(options, Mapping):
        return False
    whole = {**card.parameters, **options}
    return card.name == line["method"] and _text(whole) == _text(json.loads(line["params"]))


def _text(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters, sort_keys=True, default=list)


def in_common(first: Line, second: Line) -> Paired | None:
    """The paired test of two lines; None where their samples are gone or none is scored."""
    try:
        return paired(*frame.paired_scores(first["folder"], second["folder"]), draws=DRAWS)
    except UsageError:
        return None
