"""Experiments: irregular grids, such as the tables of a paper, as lists of regular ones.

A file of ``configs/experiment``::

    title: what it is
    common: {model: internvl3_8b, task: [mme, pope]}      # holds for every grid
    grids:
      - {method: vanilla}
      - {method: [divprune, fastv], ratio: 0.889, budget.mode: [at_stage, layer_average]}

Keys are those of the command line, a list is an axis (a list that is itself a value is written in
quotes). A value on the command line that the file lists chooses a part: the cells that have it,
with all that the file says of them. Another value replaces what the file says, with what belongs to
it (:data:`BELONGS`; one way to state the budget drops the others), and a line says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from unibench import paths, plainyaml
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
PROTOCOL = ("harness", "pixels", *CONVENTION)
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
        others = self._others(given)
        for grid in self.grids:
            if not _has(grid, given.keys() - others.keys(), given):
                continue
            if "method" in others and grid.get("method") == ("vanilla",):
                continue  # it has no budget; vanilla is run anyway, as the reference of the others
            axes = []
            for key, values in _remaining(grid, others).items():
                if key not in given:
                    axes.append([f"{key}={value}" for value in values])
            for combination in itertools.product(*axes):
                if combination not in seen:
                    seen.add(combination)
                    yield (*combination, *given.values())

    def under(self, given: Mapping[str, str]) -> Experiment:
        """The experiment without what the command line puts something else in the place of."""
        others = self._others(given)
        named = given.keys() - others.keys()
        kept = [_remaining(grid, others) for grid in self.grids if _has(grid, named, given)]
        return Experiment(self.title, tuple(kept))

    def lists(self, key: str, line: str) -> bool:
        """Whether an override names a value of the file, and so a part of it."""
        return any(_among(line, grid.get(key, ())) for grid in self.grids)

    @property
    def is_protocol(self) -> bool:
        """Whether it fixes how questions are asked, as a paper's table does."""
        return any(key in PROTOCOL for grid in self.grids for key in grid)

    def replaced(self, given: Mapping[str, str]) -> str:
        """What the command line puts in the place of what the file fixes, in a clause; empty where
        it names a part of the file, or what the file leaves open.
        """
        others = self._others(given)
        fixed: dict[str, dict[str, None]] = {}
        for grid in self.grids:
            for key, values in grid.items():
                if _replaced(key, grid, others):
                    fixed.setdefault(key, {}).update(dict.fromkeys(values))
        another_budget = not fixed.keys().isdisjoint(BUDGETS)
        changed = [
            line
            for key, line in others.items()
            if key in fixed or key in PROTOCOL or (key in BUDGETS and another_budget)
        ]
        if not changed:
            return ""
        was = "; ".join(f"{key}={','.join(values)}" for key, values in fixed.items())
        what = f"in place of {was}" if was else "about which it says nothing"
        return f"{' '.join(dict.fromkeys(changed))} {what}"

    def _others(self, given: Mapping[str, str]) -> dict[str, str]:
        """The overrides that name no value of the file, and so no part of it."""
        return {key: line for key, line in given.items() if not self.lists(key, line)}


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


def _among(line: str, values: Iterable[str]) -> bool:
    """Whether an override gives one of these values; 0.90 and 9/10 are 0.9."""
    value = line.partition("=")[2].strip("'\"")
    return any(value == other or _same_number(value, other) for other in values)


def _same_number(first: str, second: str) -> bool:
    try:
        return Fraction(first) == Fraction(second)
    except (ValueError, ZeroDivisionError):
        return False


def _has(
    grid: Mapping[str, tuple[str, ...]], keys: Iterable[str], given: Mapping[str, str]
) -> bool:
    """Whether a grid has cells of the part that the command line names.

    Vanilla, which has no budget, is part of each.
    """
    if grid.get("method") == ("vanilla",):
        keys = [key for key in keys if key not in BUDGETS]
    for key in keys:
        stated = BUDGETS if key in BUDGETS else (key,)
        otherwise = any(grid.get(other) for other in stated if other != key)
        if otherwise or (key in grid and not _among(given[key], grid[key])):
            return False
    return True


def _remaining(
    grid: Mapping[str, tuple[str, ...]], others: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """A grid without what the command line makes void."""
    return {key: values for key, values in grid.items() if not _replaced(key, grid, others)}


def _replaced(key: str, grid: Mapping[str, tuple[str, ...]], others: Mapping[str, str]) -> bool:
    """Whether the command line makes what a grid says of a key void.

    Args:
        key: of the grid.
        grid: the whole of it.
        others: overrides that name no value of the file.
    """
    if key in others or (key in BUDGETS and not others.keys().isdisjoint(BUDGETS)):
        return True
    if "model" in others and key.startswith(BELONGS["model"]):
        return True
    for choice, owned in BELONGS.items():
        if choice in others and key.startswith(owned):
            protocol = key == "harness" or key in CONVENTION
            return not (choice == "task" and protocol and _asked_by(grid, others))
    return False


def _asked_by(grid: Mapping[str, tuple[str, ...]], others: Mapping[str, str]) -> bool:
    """Whether a benchmark that the file does not list is one of the file's harness too."""
    harness = grid.get("harness", ())
    card = paths.part("configs") / "task" / f"{others['task'].partition('=')[2]}.yaml"
    if "harness" in others or not harness or not card.is_file():
        return False
    described = yaml.safe_load(card.read_text(encoding="utf-8"))
    return all(described.get(name) is not None for name in harness)
