"""What a cell needs that may not be here."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec

from unibench import hub
from unibench.identity import Cell

HARNESSES = {"vlmevalkit": "vlmeval", "lmms_eval": "lmms_eval"}  # module that a harness imports as


def obstacle(cell: Cell) -> str | None:
    """Why a cell cannot run here, in a sentence that says what to do; None if nothing is known against it."""
    model = cell.config.model
    if model.attn.startswith("flash") and not _installed("flash_attn"):
        return f"model.attn={model.attn} needs the package flash-attn and a GPU: pip install flash-attn, or take model.attn=sdpa"
    if not hub.cached(model) and not hub.answers():
        return hub.how_to_get(model)
    module = HARNESSES.get(cell.identity["harness"])
    if module is not None and not _installed(module):
        return f"harness={cell.identity['harness']} is not installed: make harnesses"
    return None


def downloads(cells: Iterable[Cell]) -> list[str]:
    """What the cells would download: checkpoints that are not in the cache, data that a harness fetches itself."""
    found: dict[str, None] = {}
    for cell in cells:
        if not hub.cached(cell.config.model):
            found[f"model {cell.config.model.checkpoint}"] = None
        if str(cell.identity["data"]).startswith("published:"):
            found[f"data of {cell.config.task.name}, unless its harness has them already"] = None
    return list(found)


def judge_of(cell: Cell) -> str | None:
    """Who scores what rules cannot, if a server must be asked for it."""
    judge = cell.identity.get("judge")
    kind = judge.get("kind") if isinstance(judge, dict) else judge
    return None if kind in (None, "none", "exact") else str(kind)


@cache
def _installed(module: str) -> bool:
    return find_spec(module) is not None
