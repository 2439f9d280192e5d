"""What is wrong with a composed cell, before anything is loaded: every mistake, each with what is
allowed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from unibench import benchmark, registry
from unibench.config import RunConfig, budget_of, model_path, parts_of
from unibench.errors import UsageError, unknown

CHOICES = {
    "model.weights": ("pretrained", "random"),
    "model.dtype": ("float32", "bfloat16", "float16"),
    "model.quantization": ("8bit", "4bit"),
    "model.attn": ("sdpa", "eager", "flash_attention_2"),
    "budget.mode": ("at_stage", "layer_average"),
    "budget.scope": ("sequence", "item", "tile"),
    "share": ("none", "memory", "disk"),
}
LEAST = {"seed": 0, "task.limit": 1, "generation.max_new_tokens": 1, "share_mib": 1, "shards": 1}


def mistakes(cell: RunConfig) -> Iterator[UsageError]:
    """What is wrong with the values of a cell, each with what is allowed."""
    try:
        budget_of(cell)
    except UsageError as error:
        yield error
    for key, allowed in CHOICES.items():
        if (given := _value(cell, key)) is not None and given not in allowed:
            yield unknown(key, str(given), allowed)
    if cell.pixels not in cell.model.pixels:
        yield unknown(f"pixels of model {cell.model.name}", cell.pixels, cell.model.pixels)
    if cell.share != "none" and cell.timing:
        yield UsageError(
            f"share={cell.share} leaves the vision tower's time out of all cells but one: add"
            " timing=false"
        )
    if cell.batch_size != "auto" and not (type(cell.batch_size) is int and cell.batch_size >= 1):
        yield UsageError(
            f"batch_size={cell.batch_size} is no size of a batch: a whole number from 1, or auto"
        )
    for key, least in LEAST.items():
        if (given := _value(cell, key)) is not None and given < least:
            yield UsageError(f"{key}={given} is too small; at least {least}")
    yield from _model_mistakes(cell)
    yield from _method_mistakes(cell)
    if cell.task.data is not None and not Path(cell.task.data).expanduser().is_dir():
        yield UsageError(f"task.data={cell.task.data}: there is no such folder")
    else:
        yield from benchmark.mistakes(cell)


def _model_mistakes(cell: RunConfig) -> Iterator[UsageError]:
    families = registry.families()
    if cell.model.family not in families:
        yield unknown("family", cell.model.family, families)
        return
    path = model_path(cell.model.path)
    if path is None:
        return
    if not (path / "config.json").is_file():
        yield UsageError(
            f"model.path={cell.model.path}: there is no config.json in {path}; give the folder of a"
            " Hugging Face checkpoint"
        )
        return
    found = _model_type(path / "config.json", (path / "config.json").stat().st_mtime_ns)
    served = families[cell.model.family].constants["model_types"]
    if found not in served:
        yield UsageError(
            f"model.path={cell.model.path} holds a {found!r} checkpoint, "
            f"but model={cell.model.name} is of family {cell.model.family} ({', '.join(served)})"
        )


@cache
def _model_type(file: Path, changed: int) -> str | None:
    found: str | None = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    return found


def _method_mistakes(cell: RunConfig) -> Iterator[UsageError]:
    card = registry.method(cell.method.get("source", cell.method["name"]))
    for key, default in card.parameters.items():
        given = cell.method.get(key)
        if isinstance(default, str) and default in registry.methods():
            if given not in registry.methods():
                yield unknown(f"method.{key}", str(given), registry.methods())
        elif type(default) in (int, float, bool, str) and not _fits(given, default):
            yield UsageError(
                f"method.{key}={given}: {type(default).__name__} wanted, for example {default}"
            )
    requires = frozenset().union(
        *(part.constants.get("requires", frozenset()) for part in parts_of(cell.method))
    )
    if cell.model.family in registry.families() and cell.model.family not in registry.serving(
        requires
    ):
        served = ", ".join(registry.serving(requires)) or "no family yet"
        yield UsageError(
            f"method={cell.method['name']} needs {', '.join(sorted(requires))}, which family"
            f" {cell.model.family} lacks; it runs on {served}"
        )


def _fits(given: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(given, bool):
        return isinstance(given, bool) and isinstance(default, bool)
    return isinstance(given, (int, float) if isinstance(default, float) else type(default))


def _value(cell: RunConfig, key: str) -> Any:
    """The value of a dotted key."""
    return functools.reduce(getattr, key.split("."), cell)
