"""Experiments: irregular grids, such as the tables of a paper, as lists of regular ones.

A file of ``configs/experiment``::

    title: what it is
    common: {model: internvl3_8b, task: [mme, pope]}      # holds for every grid
    grids:
      - {method: vanilla}
      - {method: [divprune, fastv], ratio: 0.889, budget.mode: [at_stage, layer_average]}

Keys are those of the command line, a list is an axis (a list that is itself a value is written in
quotes). What the command line gives replaces what the file says, with all that belongs to it
(:data:`BELONGS`; one way to state the budget drops the others).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unibench import plainyaml
from unibench.config import BUDGETS
from unibench.errors import UsageError, nearest

CONVENTION = ("convention", "prompt", "system", "prefix")
BELONGS = {
    "model": ("model.", "pixels", *CONVENTION),
    "method": ("method.",),
    "task": ("task.", "harness", *CONVENTION),
    "harness": CONVENTION,
}
"""Keys that say something about a choice, by their beginning: another choice drops them."""
KEYS = ("title", "common", "grids")


@dataclass(frozen=True)
class Experiment:
    """A list of grids.

    Attributes:
        title: what the experiment is, in a line.
        grids: key -> values of its axis; the last key varies fastest.
    """

    title: str
    grids: tuple[Mapping[str, tuple[str, ...]], ...]

    def lines(self, given: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
        """The overrides of each cell, none twice.

        Args:
            given: key -> override on the command line.
        """
        seen = set()
        for grid in self.grids:
            if "method" in given and grid.get("method") == ("vanilla",):
                continue  # it has no budget; vanilla is run anyway, as the reference of the others
            axes = [
                [f"{key}={value}" for value in values]
                for key, values in grid.items()
                if not _replaced(key, given)
            ]
            for combination in itertools.product(*axes):
                if combination not in seen:
                    seen.add(combination)
                    yield (*combination, *given.values())


def read(file: Path) -> Experiment:
    """The experiment in a file.

    Raises:
        UsageError: it cannot be read, or has another form.
    """
    try:
        content = plainyaml.loaded(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"experiment={file}: {error.strerror}") from None
    # another encoding, a date that is none
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise UsageError(f"experiment {file} is not valid YAML: {said}") from None
    if not isinstance(content, dict) or not isinstance(content.get("grids"), list):
        raise UsageError(
            f"experiment {file} needs grids: a list of mappings from key to value or values"
        )
    for key in content:
        if key not in KEYS:
            raise UsageError(
                f"experiment {file}: unknown key {key!r}.{nearest(str(key), KEYS)} Known:"
                f" {', '.join(KEYS)}"
            )
    common = content.get("common") or {}
    wrong = [grid for grid in (common, *content["grids"]) if not isinstance(grid, dict)]
    if wrong:
        raise UsageError(
            f"experiment {file}: {wrong[0]!r} is not a mapping from key to value or values"
        )
    grids = tuple(_axes({**common, **grid}) for grid in content["grids"])
    return Experiment(str(content.get("title", file.stem)), grids)


def _axes(grid: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        str(key): tuple(map(_written, value if isinstance(value, list) else [value]))
        for key, value in grid.items()
    }


def _written(value: Any) -> str:
    """A YAML value as the command line has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _replaced(key: str, given: Mapping[str, str]) -> bool:
    """Whether the command line makes what a file says of a key void."""
    if key in given or (key in BUDGETS and not given.keys().isdisjoint(BUDGETS)):
        return True
    return any(choice in given and key.startswith(owned) for choice, owned in BELONGS.items())
