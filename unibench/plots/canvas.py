"""What all plots share: a figure without a window, colours that stay with a method, and the
file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unibench.errors import UsageError, unknown

FORMATS = ("svg", "pdf", "png")
TOY = "measured on toy models and drawn pictures"
# Okabe and Ito's colours, told apart by colour-blind readers too
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C6D31",
    "#7F7F7F",
    "#5E3C99",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
VANILLA = {"color": "#555555", "marker": "o"}  # beside any methods

mpl.rcParams.update({"svg.hashsalt": "unibench", "svg.fonttype": "none", "pdf.fonttype": 42})
mpl.rcParams.update({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3})
mpl.rcParams["text.parse_math"] = (
    False  # names of tasks and abilities come from data, and "$" in them is no formula
)


def canvas(
    rows: int = 1, columns: int = 1, *, width: float = 4.2, height: float = 3.2, polar: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of axes in rows, each ``width x height`` inches, and the axes in reading order."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(
        rows, columns, squeeze=False, subplot_kw={"projection": "polar"} if polar else {}
    )
    return figure, list(axes.flat)


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each name: the same for the same set of names, whatever their order, and
    of vanilla always the same.
    """
    found = set(names)
    looked = {
        name: {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
        }
        for number, name in enumerate(sorted(found - {"vanilla"}))
    }
    return looked | ({"vanilla": dict(VANILLA)} if "vanilla" in found else {})


def title(figure: Figure, text: str, models: Iterable[str]) -> None:
    """The title, with a banner where a toy model was measured."""
    toy = any(model.startswith("tiny_") for model in models)
    figure.suptitle(f"{text}\n({TOY})" if toy else text, fontsize=10)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure; the same figure gives the same file.

    Raises:
        UsageError: the ending is no known format, or the folder cannot be written.
    """
    ending = path.suffix.lstrip(".")
    if ending not in FORMATS:
        raise unknown("format of a plot", ending, FORMATS)
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata=dates[ending], dpi=150)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    return path
