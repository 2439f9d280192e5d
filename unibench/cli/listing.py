"""``list`` and ``show``: what there is, read from source files and YAML without loading torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from unibench import experiment, registry, suites
from unibench.compose import CONFIGS, options
from unibench.errors import UsageError, unknown

KINDS = {
    "methods": "method",
    "models": "model",
    "tasks": "task",
    "suites": "suite",
    "experiments": "experiment",
}
HARNESSES = {"vlmevalkit": "VLMEvalKit", "lmms_eval": "lmms-eval"}
WHAT = "|".join(KINDS)


def list_(words: Sequence[str]) -> int:
    """``list methods|models|tasks|suites|experiments [--json]``."""
    as_json = "--json" in words
    names = [word for word in words if word != "--json"]
    if len(names) != 1:
        raise UsageError(f"list what? python -m unibench list {WHAT} [--json]")
    if names[0] not in KINDS:
        raise unknown("list", names[0], KINDS)
    entries = [describe(KINDS[names[0]], name) for name in _names(KINDS[names[0]])]
    if as_json:
        print(json.dumps(entries, indent=1))
        return 0
    table = Table(box=None, pad_edge=False)
    for title in ("name", "what"):
        table.add_column(title, overflow="fold")
    for entry in entries:
        table.add_row(entry["name"], entry["summary"])
    Console().print(table)
    return 0


def show(words: Sequence[str]) -> int:
    """``show method|model|task|suite|experiment NAME``."""
    if len(words) != 2:
        raise UsageError(f"show what? python -m unibench show {'|'.join(KINDS.values())} NAME")
    kind, name = words
    if kind not in KINDS.values():
        raise unknown("kind", kind, KINDS.values())
    if kind != "method" and name not in options(kind):
        raise unknown(kind, name, options(kind), f"python -m unibench list {kind}s")
    entry = describe(kind, name)
    for key, value in entry.items():
        if value not in (None, "", {}, []):
            shown = value if isinstance(value, str) else json.dumps(value)
            print(f"{key:12s} {shown}")
    return 0


def describe(kind: str, name: str) -> dict[str, Any]:
    """The card of a method, model, task, suite or experiment."""
    return {
        "method": _method,
        "model": _model,
        "task": _task,
        "suite": _suite,
        "experiment": _experiment,
    }[kind](name)


def _names(kind: str) -> Any:
    return sorted({*options(kind), *(registry.methods() if kind == "method" else ())})


def _method(name: str) -> dict[str, Any]:
    card = registry.method(name)
    sections = card.sections
    return {
        "name": name,
        "summary": card.summary,
        "why": sections.get("", "").removeprefix(" ".join(card.summary.split())).strip(),
        "paper": sections.get("paper"),
        "code": sections.get("code"),
        **{
            title: text
            for title, text in sections.items()
            if title not in ("", "paper", "code", "attributes")
        },
        "parameters": {
            key: None if value is registry.REQUIRED else value
            for key, value in card.parameters.items()
        },
        "meaning": sections.get("attributes"),
        "cuts": card.category,
        "looks for": card.aim,
        "text aware": card.text_aware,
        "adaptive": card.adaptive,
        "needs": sorted(card.wants),
        "families": registry.serving(card.wants),
        "file": str(card.path),
    }


def _model(name: str) -> dict[str, Any]:
    config = _yaml("model", name)
    source = config.get("checkpoint") or config.get("path")
    return {
        "name": name,
        "summary": f"{config['family']}, {source}",
        "family": config["family"],
        "checkpoint": config.get("checkpoint"),
        "path": config.get("path"),
        "dtype": config.get("dtype", "bfloat16"),
        "pixels": config.get("pixels", {"native": {}}),
        "file": str(CONFIGS / "model" / f"{name}.yaml"),
    }


def _task(name: str) -> dict[str, Any]:
    config = _yaml("task", name)
    return {
        "name": name,
        "summary": _benchmark(config)
        if config["kind"] == "harness"
        else f"{config['kind']}, {config.get('modality', 'image')}",
        **config,
        "file": str(CONFIGS / "task" / f"{name}.yaml"),
    }


def _experiment(name: str) -> dict[str, Any]:
    file = CONFIGS / "experiment" / f"{name}.yaml"
    read = experiment.read(file)
    axes = {
        group: [value for grid in read.grids for value in grid.get(group, ())]
        for group in ("model", "method", "task")
    }
    return {
        "name": name,
        "summary": read.title,
        "cells": sum(1 for _ in read.lines({})),
        **{group: list(dict.fromkeys(values)) for group, values in axes.items()},
        "file": str(file),
    }


def _benchmark(config: dict[str, Any]) -> str:
    """What a benchmark tests and what the harnesses call it."""
    names = [
        f"{title} {config[harness]['name']}"
        for harness, title in HARNESSES.items()
        if harness in config
    ]
    return f"{config['ability']}: {', '.join(names)}"


def _suite(name: str) -> dict[str, Any]:
    suite = suites.read(CONFIGS / "suite", name)
    summary = f"{suite.title}: {len(suite.tasks)} benchmarks in {HARNESSES[suite.harness]}"
    return {
        "name": name,
        "summary": summary,
        **asdict(suite),
        "file": str(CONFIGS / "suite" / f"{name}.yaml"),
    }


def _yaml(group: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(
        (CONFIGS / group / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return loaded
