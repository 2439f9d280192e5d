"""``calibrate``: a method's numbers, found on a model and a few samples, as overrides to copy."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from unibench import __version__
from unibench.budget import Budget
from unibench.compose import compose_cells
from unibench.errors import UsageError, unknown
from unibench.identity import Cell, cell_of

OPTIONS = {"samples": "20", "eta": "0.003", "first": "5", "out": ""}
USAGE = (
    "python -m unibench calibrate method=vtw|fitprune|mustdrop|d2pruner [model=.. task=.. ratio=.."
    " samples=20; vtw: eta=0.003 first=5; d2pruner: out=prior.safetensors]"
)
FOUND = {
    "vtw": "withdrawal_layer",
    "fitprune": "removal_recipe",
    "mustdrop": "thresholds",
    "d2pruner": "positional_prior",
}


def calibrate(words: list[str]) -> int:
    """``calibrate method=vtw|fitprune|mustdrop|d2pruner <overrides>``."""
    given = {
        **OPTIONS,
        **dict(word.split("=", 1) for word in words if word.partition("=")[0] in OPTIONS),
    }
    overrides = [word for word in words if word.partition("=")[0] not in OPTIONS]
    if "method=d2pruner" in overrides:
        if not given["out"]:
            raise UsageError("calibrate method=d2pruner writes a file: out=prior.safetensors")
        overrides.append("method.prior=random:0")  # in the place of the one that is found here
    cells = [cell_of(config) for config in compose_cells(overrides, sweep=False)]
    if len(cells) != 1 or cells[0].method not in FOUND:
        raise unknown("method to calibrate", cells[0].method, FOUND, USAGE)
    (cell,) = cells
    count = _number(given, "samples", int)
    settings = _settings(cell, given)
    model, samples = _prompts(cell, count)
    found = getattr(importlib.import_module("unibench.calibrate"), FOUND[cell.method])(
        model, samples, **settings
    )
    source = f"{cell.title}, {len(samples)} samples beyond those of the task's limit"
    if cell.method == "d2pruner":
        return _written(cell, found, given["out"], source)
    print(f"{source}: {found}")
    print(" ".join(f"'method.{key}={_plain(value)}'" for key, value in found.parameters.items()))
    return 0


def _prompts(cell: Cell, count: int) -> tuple[Any, list[Any]]:
    """The model, and prompts of samples that the cell itself does not ask.

    Raises:
        UsageError: the task has no others.
    """
    runner, models = (
        importlib.import_module("unibench.runner.embedded"),
        importlib.import_module("unibench.models"),
    )
    if cell.config.task.target is None:
        raise UsageError(
            f"calibrate reads embedded tasks; task={cell.config.task.name} is asked by a harness."
            " Use task=synthvqa or task=folder"
        )
    limit = cell.config.task.limit or 0
    later = list(runner.load_task(cell).samples(limit + count))[limit:]
    if not later:
        raise UsageError(
            f"task {cell.config.task.name} has no sample beyond task.limit={limit}; lower it, so"
            " that some are left to calibrate on"
        )
    loaded = models.load(cell.config.model, cell.config.pixels)
    return loaded.model, [
        dict(loaded.inputs([sample.question], [sample.images])) for sample in later
    ]


def _written(cell: Cell, prior: Any, out: str, source: str) -> int:
    """Write a prior with what it was made of, and say how it is used."""
    facts = {
        "model": json.dumps(cell.identity["model"]),
        "data": f"{cell.config.task.name} {cell.identity['data']}",
        "code": f"unibench {__version__}",
    }
    replace(prior, facts={**prior.facts, **facts}).save(Path(out).expanduser())
    sizes = ", ".join(f"{height} x {width}" for height, width in sorted(prior.grids))
    print(f"{source}: a prior of {sizes} tokens")
    print(f"'method.prior={out}'")
    return 0


def _settings(cell: Cell, given: dict[str, str]) -> dict[str, Any]:
    if cell.method == "d2pruner":
        return {}
    if cell.method == "vtw":
        return {"eta": _number(given, "eta", float), "first": _number(given, "first", int)}
    return {"ratio": _ratio(cell)}


def _ratio(cell: Cell) -> float:
    budget: Budget = cell.budget
    if budget.ratio is None:
        raise UsageError(
            f"calibrate wants a share: ratio or retention instead of keep={budget.tokens}"
        )
    return budget.ratio


def _number(given: dict[str, str], name: str, kind: Callable[[str], Any]) -> Any:
    try:
        value = kind(given[name])
    except ValueError:
        raise UsageError(
            f"{name}={given[name]} is no number; for example {name}={OPTIONS[name]}"
        ) from None
    if value <= 0:
        raise UsageError(f"{name}={given[name]} is too small; for example {name}={OPTIONS[name]}")
    return value


def _plain(value: Any) -> str:
    """A parameter as an override has it."""
    return (
        f"[{','.join(f'{entry:.6g}' for entry in value)}]"
        if isinstance(value, tuple)
        else f"{value:.6g}"
    )
