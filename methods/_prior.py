"""The positional prior of a model: how much attention a place of the picture gets whatever is shown
there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unibench import StageContext, UsageError
from unibench.methods import _calibration
from unibench.pruning import Item
from unibench.pruning.layout import grids_of

RANDOM_SIDE = 24


@dataclass(frozen=True, eq=False)
class Prior:
    """Mean attention by place, for each size of grid that was seen.

    Attributes:
        grids: ``[height, width]`` by size.
        facts: what the file says about itself: model, data, layer, samples, code.
    """

    grids: Mapping[tuple[int, int], Tensor]
    facts: Mapping[str, str] = field(default_factory=dict)

    def of(self, height: int, width: int) -> tuple[Tensor, tuple[int, int]]:
        """The prior ``[height * width]`` of a grid, and the size of the grid that it comes from:
        the same, or the one nearest in area and shape, resampled bilinearly.
        """
        size = min(self.grids, key=lambda known: (_apart(known, (height, width)), known))
        known = self.grids[size].float()
        if size != (height, width):
            # in two dimensions; a third party's port interpolates the flat vector, which mixes rows
            known = interpolate(known[None, None], (height, width), mode="bilinear")[0, 0]
        return known.flatten(), size

    def at(self, ctx: StageContext) -> Tensor:
        """The prior of each visual token of a context, ``[N]``; a separator has the mean."""
        items = ctx.items or (Item(0, ctx.total),)
        # of the whole picture, also inside the model, where some of its tokens are gone already
        tokens = torch.cat([torch.arange(item.start, item.stop) for item in items])
        values = torch.full((len(tokens),), torch.nan)
        for grid in grids_of(items, tokens):
            if grid.separators:
                continue
            values[grid.rows], size = self.of(grid.height, grid.width)
            if size != (grid.height, grid.width):
                there, here = (f"{h} x {w}" for h, w in (size, (grid.height, grid.width)))
                ctx.note(f"prior of {there} tokens resampled to {here}")
        values = values.nan_to_num(float(values.nanmean()))
        return values.to(ctx.vision_rows.device)[
            torch.searchsorted(tokens.to(ctx.vision_rows.device), ctx.vision_rows)
        ]

    def save(self, path: str | Path) -> None:
        """Write a file that :func:`load` reads."""
        tensors = {f"{h}x{w}": grid.float() for (h, w), grid in self.grids.items()}
        _calibration.Calibration(tensors, {"method": "d2pruner", **self.facts}).save(path)


def missing(method: str) -> str:
    """Why a method without a prior cannot run."""
    return (
        f"{method} divides by the model's positional prior: method.prior=<file.safetensors>,"
        f" which `python -m unibench calibrate method=d2pruner model=.. to=<file>` writes"
    )


def check(path: str | None, method: str) -> None:
    """Raise where ``path`` is given and cannot be a prior.

    Raises:
        UsageError: there is no such file.
    """
    if path is None:
        return
    if not path.startswith("random:") and not Path(path).expanduser().is_file():
        raise UsageError(
            f"method.prior={path}: there is no such file; `python -m unibench calibrate"
            f" method=d2pruner model=.. to={path}` writes it"
        )


def load(path: str) -> Prior:
    """The prior at ``path``, or ``random:<seed>``, which exists for tests alone.

    Raises:
        UsageError: no file of a prior.
    """
    if path.startswith("random:"):
        g = torch.Generator().manual_seed(int(path.partition(":")[2]))
        # away from zero, since scores are divided by it
        grid = torch.rand(RANDOM_SIDE, RANDOM_SIDE, generator=g) + 0.5
        return Prior({(RANDOM_SIDE, RANDOM_SIDE): grid})
    file = Path(path).expanduser()
    return _from_file(file, (file.stat().st_mtime_ns, file.stat().st_size))


@lru_cache(maxsize=4)
def _from_file(file: Path, version: tuple[int, int]) -> Prior:
    grids: dict[tuple[int, int], Tensor] = {}
    stored = _calibration.read(file)
    for name, grid in stored.tensors.items():
        size = re.fullmatch(r"(\d+)x(\d+)", name)
        shape = (int(size[1]), int(size[2])) if size else None
        if shape is None or tuple(grid.shape) != shape or not bool((grid >= 0).all()):
            raise UsageError(
                f"{file} is no prior: {name!r} {list(grid.shape)}; wanted are grids of values from"
                " 0 on, each named by its size, for example 24x24"
            )
        grids[shape] = grid
    if not grids:
        raise UsageError(f"{file} is no prior: it holds no grid")
    return Prior(grids, stored.facts)


def _apart(one: tuple[int, int], other: tuple[int, int]) -> float:
    """How different two sizes are, in area and in shape."""
    (h, w), (height, width) = one, other
    # logarithms: twice as large and half as large are equally far
    return abs(math.log(h * w / (height * width))) + abs(math.log(h * width / (w * height)))
