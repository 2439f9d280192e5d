"""``plot`` and ``overlay``: pictures of finished cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from unibench import frame as frames
from unibench.cli import reporting
from unibench.errors import UsageError, unknown
from unibench.page.gallery import kept_of
from unibench.plots import canvas, costs, ranks, scores
from unibench.plots.overlay import side_by_side

Given = Mapping[str, str]
DRAW: dict[
    str, tuple[tuple[str, ...], Callable[[pd.DataFrame, Given], Figure]]
] = {  # what a plot is of, and the plot
    "ratio": (("model", "task"), lambda frame, given: scores.by_ratio(frame, given["task"])),
    "pareto": (
        ("model", "task"),
        lambda frame, given: costs.pareto(frame, given["task"], given.get("cost", "prefill_ms")),
    ),
    "bars": (("model", "task"), lambda frame, given: costs.bars(frame, given["task"])),
    "heat": (
        ("model",),
        lambda frame, given: scores.heat_map(frame, given.get("value", "retention_pct")),
    ),
    "radar": (
        ("model", "budget"),
        lambda frame, given: scores.radar(
            frame, given["budget"], spokes=given.get("spokes", "task")
        ),
    ),
    "ranks": (
        ("budget",),
        lambda frame, given: ranks.critical_difference(frame, given["budget"]),
    ),
    "size": (
        ("budget",),
        lambda frame, given: scores.sizes(frame, _models(frame, given), given["budget"]),
    ),
}
OWN = ("cost", "value", "spokes", "models")


def plot(words: Sequence[str]) -> int:
    """``plot KIND [model=M] [task=T] [budget=0.889] [out=outputs] [to=KIND.svg]``; the ending of
    ``to`` is the format.
    """
    kind, *rest = words or [""]
    if kind not in DRAW:
        raise unknown(
            "plot",
            kind,
            DRAW,
            "python -m unibench plot ratio task=synthvqa out=outputs to=ratio.svg",
        )
    given = reporting.options(rest, OWN)
    frame = frames.over_seeds(reporting.finished(given))
    keys, draw = DRAW[kind]
    chosen = {**given, **{key: _only(frame, key, given) for key in keys}}
    print(canvas.save(draw(frame, chosen), Path(given.get("to", f"{kind}.svg"))))
    return 0


def overlay(words: Sequence[str]) -> int:
    """``overlay SAMPLE [model=M] [task=T] [budget=B] [out=outputs] [to=overlay.png]``: what each
    method kept, side by side.
    """
    if not words or "=" in words[0]:
        raise UsageError(
            "overlay which sample? python -m unibench overlay <id of samples.jsonl> [budget=0.889"
            " out=outputs to=overlay.png]"
        )
    sample, *rest = words
    given = reporting.options(rest)
    frame = reporting.finished(given)
    cells = frame[frame["main"] & (frame["ability"] == frames.ALL)]
    for key in ("model", "task", "setting"):
        _only(cells, key, given)
    columns = {
        name: kept_of(folder, sample)
        for name, folder in zip(_names(cells), cells["folder"], strict=True)
    }
    if not any(columns.values()):
        raise UsageError(
            f"there is nothing to show: no finished cell among these results, or sample {sample}"
            " has no picture"
        )
    place = Path(given.get("to", "overlay.png"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        side_by_side(columns).save(place)
    except (OSError, ValueError) as error:
        raise UsageError(f"to={place} cannot be written: {error}") from None
    print(place)
    return 0


def _names(cells: pd.DataFrame) -> list[str]:
    """What each cell is called above its column: its method and budget, and what else tells it from
    the others.
    """
    names = (
        cells["method"]
        + (" " + cells["variant"]).where(cells["variant"] != "", "")
        + " "
        + cells["budget"]
    )
    alike = cells.groupby(names)
    for key in ("budget_mode", "seed"):
        differs = alike[key].transform("nunique") > 1
        names = names.where(~differs, names + f" {key} " + cells[key].astype(str))
    return [str(name) for name in names]


def _models(frame: pd.DataFrame, given: Given) -> list[str]:
    """Small to large, as the user says, or in the order of the cells."""
    return (
        given["models"].split(",")
        if "models" in given
        else [str(model) for model in frame["model"].unique()]
    )


def _only(frame: pd.DataFrame, key: str, given: Given) -> str:
    """The value that a plot is of: the given one, or the only one there is.

    Raises:
        UsageError: there are several.
    """
    lines = frame[frame["method"] != "vanilla"] if key == "budget" else frame
    known = [given[key]] if key in given else [str(value) for value in lines[key].unique()]
    if len(known) > 1:
        raise UsageError(
            f"these results have several values of {key}: {', '.join(known)}; choose one with"
            f" {key}={known[0]}"
        )
    return known[0] if known else ""
