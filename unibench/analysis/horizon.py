"""The information horizon: the decoder layer from which on it no longer matters which visual tokens
go on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from unibench.frame import paired_scores
from unibench.inference.row import columns
from unibench.stats import paired
from unibench.stats.interval import DRAWS

RANDOM = "random_intra"
Cell = Mapping[Any, Any]  # a line of the frame
COLUMNS = (
    *columns("model", "task", "budget"),
    *("layer", "against", "random", "other", "difference", "low", "high", "equal"),
)


def horizon(lines: pd.DataFrame) -> pd.DataFrame:
    """Random choice at each layer against vanilla, and against each method that cuts there.

    Args:
        lines: of :func:`unibench.frame.whole`, seeds joined: ``random_intra`` with several values
            of ``layer``, vanilla, and other methods with a parameter ``layer``.

    Returns:
        Columns :data:`COLUMNS`, by layer; scores and differences (random minus the other) are out
        of 100, ``low`` and ``high`` the paired 95 % interval. ``equal``: it reaches 0.
    """
    found = []
    for _, group in lines.groupby(["setting", "metric"], sort=False):
        cells = [(line, _layer(str(line["params"]))) for line in group.to_dict("records")]
        for drawn, layer in cells:
            if drawn["method"] != RANDOM or layer is None:
                continue
            beside = [other for other, at in cells if _meets(other, at, drawn, layer)]
            found += [{**_against(drawn, other), "layer": layer} for other in beside]
    table = pd.DataFrame(found, columns=list(COLUMNS))
    return table.sort_values(["model", "task", "budget", "layer"], kind="stable", ignore_index=True)


def first_layers(table: pd.DataFrame) -> pd.DataFrame:
    """For each model, task and budget the first layer from which on random equals everything; NaN
    where there is none among those that were run.
    """
    places = ["model", "task", "budget"]
    equal = table.groupby([*places, "layer"], sort=True)["equal"].all().reset_index()
    found = []
    for place, group in equal.groupby(places, sort=False):
        # from the last layer backwards, until one differs
        tail = group["equal"][::-1].cumprod()[::-1].astype(bool)
        first = group["layer"][tail].min()
        found.append((*place, first, int(group["layer"].min()), int(group["layer"].max())))
    return pd.DataFrame(found, columns=[*places, "horizon", "from", "to"])


def _layer(params: str) -> int | None:
    layer = json.loads(params).get("layer")
    return layer if isinstance(layer, int) else None


def _meets(other: Cell, at: int | None, drawn: Cell, layer: int) -> bool:
    """Whether a cell is what random choice at a layer is compared with."""
    if other["method"] in ("vanilla", RANDOM):
        return bool(other["method"] == "vanilla")
    same = all(other[name] == drawn[name] for name in ("budget", "budget_mode", "budget_scope"))
    return same and at == layer


def _named(cell: Cell) -> str:
    """A method without its layer, which has a column of its own."""
    changed = [part for part in str(cell["variant"]).split(",") if part[:6] != "layer="]
    return " ".join(filter(None, (str(cell["method"]), ",".join(changed))))


def _against(drawn: Cell, other: Cell) -> dict[str, Any]:
    """The paired difference, random minus the other."""
    result = paired(*paired_scores(other["folder"], drawn["folder"]), draws=DRAWS)
    return {
        **{name: drawn[name] for name in ("model", "task", "budget")},
        "against": _named(other),
        "random": 100 * result.second,
        "other": 100 * result.first,
        "difference": 100 * result.difference,
        "low": 100 * result.low,
        "high": 100 * result.high,
        "equal": result.low <= 0 <= result.high,
    }
