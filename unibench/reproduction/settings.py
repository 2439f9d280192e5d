"""Which keys of a table's experiment are the paper's own way, and the experiment without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from unibench import paths, registry
from unibench.config import BudgetConfig, RunConfig
from unibench.errors import UsageError
from unibench.experiment import Experiment

WAYS = (
    *("convention", "prompt", "system", "prefix", "pixels"),
    *("positions", "budget.scope", "budget.rounding"),
    *("model.dtype", "model.attn", "generation.repetition_penalty"),
)
"""Keys of how a paper runs what its table compares. The harness is none of them: numbers of two
harnesses are no numbers of one benchmark.
"""
VARIANTS = ("variant", "norm", "pivots_image", "pivots_text", "layer", "alpha_role")
"""Parameters of methods in which released codes differ."""
BELONGS = {"prompt": "convention", "system": "convention", "prefix": "convention"}
"""Keys that change together with another one."""


@dataclass(frozen=True)
class Difference:
    """A setting of a table that is not unibench's default.

    Attributes:
        key: of the command line.
        paper: values in the experiment.
        unibench: the default.
        methods: that it is set for; empty is all.
    """

    key: str
    paper: tuple[str, ...]
    unibench: str
    methods: tuple[str, ...] = ()


def differences(experiment: Experiment) -> list[Difference]:
    """What the experiment of a table sets otherwise than unibench does by default."""
    found: dict[tuple[str, tuple[str, ...], str], dict[str, None]] = {}
    everywhere: dict[tuple[str, tuple[str, ...], str], int] = {}
    for grid in experiment.grids:
        for key in ways_of(grid):
            told = (key, grid[key], _default(key, grid))
            if told[1] != (told[2],):
                found.setdefault(told, {}).update(dict.fromkeys(grid.get("method", ())))
                everywhere[told] = everywhere.get(told, 0) + 1
    return [
        Difference(*told, () if everywhere[told] == len(experiment.grids) else tuple(methods))
        for told, methods in found.items()
    ]


def factors(experiment: Experiment) -> list[str]:
    """The keys that can be set to the paper's value one at a time."""
    keys = [BELONGS.get(one.key, one.key) for one in differences(experiment)]
    return list(dict.fromkeys(keys))


def of_unibench(experiment: Experiment) -> Experiment:
    """What the table compares, run in unibench's way."""
    return with_factor(experiment, None)


def with_factor(experiment: Experiment, factor: str | None) -> Experiment:
    """What the table compares, run in unibench's way but for one setting of the paper."""
    grids = []
    for grid in experiment.grids:
        ours = {key for key in ways_of(grid) if BELONGS.get(key, key) != factor}
        grids.append({key: values for key, values in grid.items() if key not in ours})
    return Experiment(experiment.title, tuple(grids))


def ways_of(grid: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The keys of a grid that are the paper's own way."""
    return [key for key in grid if key in WAYS or _is_variant(key, grid)]


def _is_variant(key: str, grid: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a key is a parameter of the method that has a default."""
    start, _, name = key.partition(".")
    if start != "method" or name not in VARIANTS:
        return False
    return all(_parameter(method, name) is not None for method in grid.get("method", ()))


def _default(key: str, grid: Mapping[str, tuple[str, ...]]) -> str:
    """What unibench does where nothing is said."""
    start, _, name = key.partition(".")
    if start == "method":
        values = {str(_parameter(method, name)) for method in grid["method"]}
        return " or ".join(sorted(values))
    if start == "model":
        return " or ".join(sorted({str(_of_card(model, name)) for model in grid["model"]}))
    if key == "generation.repetition_penalty":
        return "the convention's"
    return str(getattr(BudgetConfig(), name) if start == "budget" else getattr(RunConfig, key))


def _parameter(method: str, name: str) -> Any:
    """The default of a parameter; None where there is none."""
    value = registry.method(method).parameters.get(name)
    return None if value is registry.REQUIRED else value


def _of_card(model: str, name: str) -> Any:
    card = paths.part("configs") / "model" / f"{model}.yaml"
    if not card.is_file():
        raise UsageError(f"model={model}: there is no such card")
    return yaml.safe_load(card.read_text(encoding="utf-8")).get(name, "the schema's")
