"""Putting the results explorer together: one page, and what it loads when it is asked for."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from unibench import frame as frames
from unibench import report as reports
from unibench.comparison.against import Against, against
from unibench.errors import UsageError
from unibench.errors import shown as printable
from unibench.page import details, judged
from unibench.page.details import Details, as_json
from unibench.page.lines import columns_of, places_of
from unibench.page.summary import summary
from unibench.plots.canvas import looks
from unibench.store.files import replace

DIAGNOSED = 300  # cells whose samples a table of diagnostics reads
LIBRARIES = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js", "dataTables.min.js")
SCRIPTS = ("state.js", "tables.js", "plots.js", "findings.js", "gallery.js", "page.js")
STYLES = (("vendor", "dataTables.min.css"), ("templates", "page.css"))
SHAPES = MappingProxyType(
    {
        "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down",
        "P": "cross", "X": "triangle-left", "*": "triangle-right",
    }
)  # fmt: skip
"""Vega's name of matplotlib's markers."""


def build(
    frame: pd.DataFrame,
    to: Path,
    left_out: Mapping[Path, str] = MappingProxyType({}),
    store: Path | None = None,
) -> Path:
    """Write the explorer into a folder: ``index.html``, which needs no network and of the folder
    only answers, pictures and configurations, and only when somebody looks at them.

    Args:
        frame: finished cells, not joined over seeds.
        to: the folder.
        left_out: why further cells of the store are not shown, by their folder.
        store: that the cells are of, to say what has failed in it.

    Returns:
        ``index.html``.

    Raises:
        UsageError: no finished cell, or the folder cannot be written.
    """
    if frame.empty:
        raise UsageError("there is nothing for a page: no finished cell among these results")
    try:
        found = details.write(frame, to)
        joined = frames.over_seeds(frame)
        beaten = against(frames.whole(joined))
        data = {"summary": summary(frame, left_out, store)}
        data |= _data(frame, joined, beaten, found)
        scripts = [_script(_part("vendor", name)) for name in LIBRARIES]
        scripts += [_script(_part("templates", name)) for name in SCRIPTS]
        text = _template().render(
            style=Markup("\n".join(_part(*name) for name in STYLES)),
            scripts=[script for script, _ in scripts],
            hashes=" ".join(f"'{digest}'" for _, digest in scripts),
            data=Markup(as_json(data)),
            tables=list(_tables(joined, beaten)),
            licences=_part("vendor", "LICENCES.txt"),
            left_out=[f"{printable(cell)}: {printable(why)}" for cell, why in left_out.items()],
            toy=any(str(model).startswith("tiny_") for model in frame["model"]),
        )
        replace(to / "index.html", text)
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror}") from None
    return to / "index.html"


def _data(
    frame: pd.DataFrame, joined: pd.DataFrame, beaten: Mapping[str, Against], found: Details
) -> dict[str, Any]:
    """Every number that the page shows, as JSON."""
    lines, cells = frames.whole(joined), frames.whole(frame)
    places = places_of(lines)
    shown = columns_of(lines, places)
    numbers = {series: number for number, series in enumerate(shown["series"])}
    verdicts = judged.verdicts(lines, beaten)
    times = [found.times.get(series, (None, None)) for series in numbers]
    tests, more = judged.pairs(lines)
    abilities = joined[joined["main"] & (joined["ability"] != frames.ALL)]
    by_cell = columns_of(cells, places)
    cell_details = [found.cells.get(keys[0]) for keys in by_cell["key"]]
    return {
        "places": [asdict(place) for place in places.values()],
        "lines": {
            **shown,
            "verdict": [list(asdict(verdicts[series]).values()) for series in numbers],
            "prefill_low": [low for low, _ in times],
            "prefill_high": [high for _, high in times],
        },
        "cells": {
            **by_cell,
            "detail": [one and list(asdict(one).values()) for one in cell_details],
        },
        "abilities": columns_of(abilities, places),
        "looks": _looks(lines),
        "pairs": judged.written(tests, numbers),
        "more_pairs": more,
        "recommend": judged.recommended(frame),
        "left": found.left,
        "remarks": list(found.remarks),
    }


def _looks(lines: pd.DataFrame) -> dict[str, list[str]]:
    """Colour and shape of each method: by its name among those of the page, vanilla apart."""
    names = (lines["method"] + " " + lines["variant"].fillna("")).str.strip()
    found = looks(name for name in names if name != "vanilla")
    return {name: [one["color"], SHAPES[one["marker"]]] for name, one in found.items()}


def _tables(joined: pd.DataFrame, beaten: Mapping[str, Against]) -> Iterator[Markup]:
    """The tables that the page does not make itself."""
    tables = reports.controls(joined, beaten)
    with suppress(UsageError):  # without a smaller picture or a question asked blind
        tables += reports.groups(joined)
    if len(frames.whole(joined)) <= DIAGNOSED:  # the samples of each cell are read
        tables += reports.diagnostics(joined)[:1]
    for table in tables:
        yield Markup(reports.WRITERS["html"](table))


def _script(text: str) -> tuple[Markup, str]:
    """A script, and the hash by which the browser knows that it is ours."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"


def _part(*name: str) -> str:
    """A file beside this module."""
    return resources.files("unibench.page").joinpath(*name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unibench.page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html.j2")
