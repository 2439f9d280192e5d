"""What a cell needs that may not be here."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec

from unibench import hub
from unibench.benchmark import MODULES
from unibench.identity import Cell
from unibench.plan.sizes import size_of


def obstacle(cell: Cell) -> str | None:
    """Why a cell cannot run here, in a sentence that says what to do; None if nothing is known
    against it.
    """
    model = cell.config.model
    if model.attn.startswith("flash") and not _installed("flash_attn"):
        return (
            f"model.attn={model.attn} needs the package flash-attn and a GPU: pip install"
            " flash-attn, or take model.attn=sdpa"
        )
    if not hub.cached(model) and not hub.answers():
        return hub.how_to_get(model)
    benchmark = cell.benchmark
    if (
        benchmark is not None
        and cell.config.harness_options.python is None
        and not _installed(MODULES[benchmark.harness])
    ):
        return f"harness={benchmark.harness} is not installed: make harnesses"
    return None


def downloads(cells: Iterable[Cell]) -> list[str]:
    """What the cells would download: checkpoints that are not in the cache, data that a harness
    fetches itself.
    """
    found: dict[str, None] = {}
    for cell in cells:
        if not hub.cached(cell.config.model):
            later = "" if cell.final else " (key after download: its commit is not known)"
            size = size_of(cell.config.model)
            about = "" if size is None else f", about {size.gib:.1f} GiB"
            found[f"model {cell.config.model.checkpoint}{about}{later}"] = None
        if str(cell.identity["data"]).startswith("published:"):
            found[f"data of {cell.config.task.name}, unless its harness has them already"] = None
    return list(found)


def judge_of(cell: Cell) -> str | None:
    """Who scores what rules cannot, if a server must be asked for it."""
    benchmark = cell.benchmark
    judge = None if benchmark is None else benchmark.judge
    return (
        f"{judge.model} at {judge.url}" if judge is not None and judge.kind == "endpoint" else None
    )


@cache
def _installed(module: str) -> bool:
    return find_spec(module) is not None
