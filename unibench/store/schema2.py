"""The identity that schema 2 wrote for a cell: tells whether a stored cell is about the same files.

Schema 2 hashed a large file by its first and last megabyte, and a method by its own file alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unibench import benchmark
from unibench.config import model_path
from unibench.identity import Cell
from unibench.paths import expanded

EDGE = 1 << 20


def identity_of(cell: Cell) -> dict[str, Any]:
    """What schema 2 would say of a cell today, without what it said of code."""
    config = cell.config
    plain = asdict(config)
    model, task = plain["model"], plain["task"]
    named = ("name", "dtype", "attn", "quantization", "processor", "clip")
    architecture = model["architecture"] if model["weights"] == "random" else None
    return {
        "model": {
            **{name: model[name] for name in named},
            "weights": _weights(model),
            "architecture": architecture,
        },
        "method": {key: _value(value) for key, value in config.method.items() if key != "source"},
        "budget": {"label": cell.budget.label, **plain["budget"]},
        "seed": config.seed,
        "task": {key: task[key] for key in ("name", "limit", "options", "modality")},
        "data": _data(cell),
        "pixels": cell.identity["pixels"],
        "generation": plain["generation"],
        "batch_size": config.batch_size,
        "harness": cell.identity["harness"],
        **({} if config.timing else {"timing": False}),
    }


def _weights(model: dict[str, Any]) -> str:
    path = model_path(model["path"])
    if model["weights"] == "random":
        return f"random:{model['name']}"
    if path is not None:
        return f"files:{_files(path)}"
    return f"hub:{model['checkpoint']}@{model['revision'] or 'main'}"


def _data(cell: Cell) -> str:
    task = cell.config.task
    if cell.benchmark is not None:
        places = benchmark.data_of(task, cell.benchmark.harness)
        local = ",".join(map(_files, places))
        return f"local:{local}" if local else f"published:{cell.benchmark.card.name}"
    return "code:" if task.data is None else f"files:{_files(expanded(task.data))}"


def _value(value: Any) -> Any:
    if not isinstance(value, str) or "/" not in value or not expanded(value).exists():
        return value
    return f"files:{_files(expanded(value))}"


def _files(place: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    kept = (
        path
        for path in place.rglob("*")
        if path.is_file() and path.name[0] != "." and path.name != "README.md"
    )
    for file in [place] if place.is_file() else sorted(kept):
        size = file.stat().st_size
        below = file.relative_to(place.parent if place.is_file() else place)
        digest.update(f"{below}:{size}".encode())
        with file.open("rb") as stream:
            # kept as schema 2 had it, blind to the middle of a file: it only tells whether a stored
            # cell may be about the same files
            digest.update(stream.read(EDGE))
            if size > EDGE:
                stream.seek(max(EDGE, size - EDGE))
                digest.update(stream.read())
    return digest.hexdigest()
