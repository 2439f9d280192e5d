"""``calibrate``: a method's numbers, found on a model and a few samples, as overrides to copy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unibench import __version__
from unibench.cli.grid import Grid
from unibench.cli.parser import COMMAND, Options
from unibench.cli.parsers import CALIBRATED
from unibench.errors import UsageError, unknown
from unibench.identity import Cell

if TYPE_CHECKING:
    from unibench.models import LoadedModel


def calibrate(options: Options) -> int:
    """``calibrate method=vtw|fitprune|mustdrop|d2pruner <overrides>``."""
    if "method=d2pruner" in options.words:
        if options.to is None:
            raise UsageError("calibrate method=d2pruner writes a file: to=prior.safetensors")
        options.words.append("method.prior=random:0")  # in the place of the one that is found here
    (cell,) = Grid(options, sweep=False).cells
    if cell.method not in CALIBRATED:
        page = f"{COMMAND} calibrate --help"
        raise unknown("method to calibrate", cell.method, CALIBRATED, page)
    ratio = _ratio(cell) if cell.method in ("fitprune", "mustdrop") else 0.0
    model, samples = _prompts(cell, options.samples)
    from unibench import calibrate as calibrations

    match cell.method:
        case "vtw":
            found: Any = calibrations.withdrawal_layer(
                model, samples, eta=options.eta, first=options.first
            )
        case "fitprune":
            found = calibrations.removal_recipe(model, samples, ratio=ratio)
        case "d2pruner":
            prior = calibrations.positional_prior(model, samples)
            return _prior(cell, prior, options.to, len(samples))
        case _:
            found = calibrations.thresholds(model, samples, ratio=ratio)
    if options.to is not None:
        return _file(cell, found, options.to, len(samples))
    print(f"{cell.title}, {len(samples)} samples beyond those of the task's limit: {found}")
    print(" ".join(f"'method.{key}={_plain(value)}'" for key, value in found.parameters.items()))
    return 0


def _prompts(cell: Cell, count: int) -> tuple[Any, list[dict[str, Any]]]:
    """The model, and prompts of samples that the cell itself does not ask.

    Raises:
        UsageError: the task has no others.
    """
    from unibench.models import load
    from unibench.runner.embedded import load_task

    task = cell.config.task
    if task.target is None:
        raise UsageError(
            f"calibrate reads embedded tasks; task={task.name} is asked by a harness. Use"
            " task=synthvqa or task=folder"
        )
    limit = task.limit or 0
    later = list(load_task(cell).samples(limit + count))[limit:]
    if not later:
        raise UsageError(
            f"task {task.name} has no sample beyond task.limit={limit}; lower it, so that some are"
            " left to calibrate on"
        )
    loaded: LoadedModel = load(cell.config.model, cell.config.pixels)
    return loaded.model, [
        dict(loaded.inputs([sample.question], [sample.images])) for sample in later
    ]


def _prior(cell: Cell, prior: Any, to: str, count: int) -> int:
    """Write a prior with what it was made of, and say how it is used."""
    facts = {**prior.facts, **_facts(cell, count)}
    replace(prior, facts=facts).save(Path(to).expanduser())
    sizes = ", ".join(f"{height} x {width}" for height, width in sorted(prior.grids))
    print(f"{cell.title}, {count} samples: a prior of {sizes} tokens")
    print(f"'method.prior={to}'")
    return 0


def _file(cell: Cell, found: Any, to: str, count: int) -> int:
    """Write the numbers of a method with what they were made of, and say how they are used."""
    import torch

    from unibench.methods._calibration import Calibration

    # the numbers as they are, not rounded as on the screen
    tensors = {
        key: torch.tensor(value, dtype=torch.long if isinstance(value, int) else torch.float64)
        for key, value in found.parameters.items()
    }
    Calibration(tensors, _facts(cell, count)).save(Path(to).expanduser())
    print(f"{cell.title}, {count} samples beyond those of the task's limit: {found}")
    print(f"'method.calibration={to}'")
    return 0


def _facts(cell: Cell, count: int) -> dict[str, str]:
    """What a file was made of."""
    return {
        "method": cell.method,
        "model": json.dumps(cell.identity["model"]),
        "data": f"{cell.config.task.name} {cell.identity['data']}",
        "samples": str(count),
        "code": f"unibench {__version__}",
    }


def _ratio(cell: Cell) -> float:
    if cell.budget.ratio is None:
        raise UsageError(
            f"calibrate wants a share: ratio or retention instead of keep={cell.budget.tokens}"
        )
    return cell.budget.ratio


def _plain(value: Any) -> str:
    """A parameter as an override has it."""
    if isinstance(value, tuple):
        return f"[{','.join(f'{entry:.6g}' for entry in value)}]"
    return f"{value:.6g}"
