"""``list`` and ``show``: what there is, without loading torch."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from typing import Any

import yaml
from rich.table import Table

from unibench import experiment, registry, suites
from unibench.cli.parser import COMMAND, Options
from unibench.cli.parsers import KINDS
from unibench.cli.terminal import print_table
from unibench.compose import CONFIGS, options
from unibench.errors import UsageError, unknown
from unibench.registry.cards import NEEDS

NEEDED = {
    **{"name": "name", "venue": "venue", "needs": "needs", "cuts at": "layers"},
    **{"FlashAttention": "FlashAttention", "adaptive": "adaptive"},
}  # columns of `--needs`, and the entries of a card that fill them
HARNESSES = {"vlmevalkit": "VLMEvalKit", "lmms_eval": "lmms-eval"}


def list_(asked: Options) -> int:
    """``list methods|models|tasks|suites|experiments [--json] [--match NAME] [--needs [WHAT]]``."""
    kind = KINDS[asked.kind]
    names = sorted(fnmatch.filter(options(kind), asked.match or "*"), key=_natural)
    if not names:
        raise unknown(kind, asked.match, options(kind), f"{COMMAND} list {asked.kind}")
    entries = [describe(kind, name) for name in names]
    columns = {"name": "name", "what": "summary"}
    if asked.needs is not None:
        if kind != "method":
            raise UsageError(f"--needs belongs to methods: {COMMAND} list methods --needs")
        columns = NEEDED
        entries = [entry for entry in entries if _fits(entry, asked.needs)]
    if asked.json:
        print(json.dumps(entries, indent=1))
        return 0
    table = Table(box=None, pad_edge=False)
    for title in columns:
        table.add_column(title)
    for entry in entries:
        table.add_row(*(_cell(entry[key]) for key in columns.values()))
    print_table(table, keys=1, sentence=asked.needs is None)
    return 0


def _natural(name: str) -> list[tuple[int, str]]:
    """Orders names as people do: table 2 before table 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _fits(entry: Mapping[str, Any], words: str) -> bool:
    """Whether a method needs all that is asked for, and nothing that ``no-`` stands before.

    Raises:
        UsageError: a word that is no need.
    """
    for word in filter(None, words.split(",")):
        need = word.removeprefix("no-")
        if need not in NEEDS:
            raise unknown("need", word, (*NEEDS, *(f"no-{need}" for need in NEEDS)))
        if (need in entry["needs"]) == word.startswith("no-"):
            return False
    return True


def _cell(value: Any) -> str:
    """A value of a card in a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", ".join(value) if isinstance(value, list) else str(value)) or "-"


def show(asked: Options) -> int:
    """``show method|model|task|suite|experiment NAME``."""
    kind, name = asked.kind, asked.name
    if name not in options(kind) and not (kind in ("method", "task") and ".py" in name):
        raise unknown(kind, name, options(kind), f"python -m unibench list {kind}s")
    for key, value in describe(kind, name).items():
        if value in (None, "", {}, []):
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        if isinstance(value, dict) and any(isinstance(one, (dict, list)) for one in value.values()):
            said = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
            print(key, *said.splitlines(), sep="\n  ")
        else:
            print(f"{key:12s} {text}")
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


def _method(name: str) -> dict[str, Any]:
    if (CONFIGS / "method" / f"{name}.yaml").is_file():
        return _preset(name)
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
        "venue": card.venue,
        "needs": list(card.needs),
        "layers": list(card.cuts),
        "FlashAttention": card.flash,
        "servable": card.servable,
        "wants": sorted(card.wants),
        "families": registry.serving(card.wants),
        "file": str(card.path),
    }


def _preset(name: str) -> dict[str, Any]:
    """A YAML file of the method group: the card of its method under other parameters."""
    preset = _yaml("method", name)
    (method,) = preset.pop("defaults")
    values = ", ".join(f"{key}={json.dumps(value)}" for key, value in preset.items())
    card = _method(method)
    return {
        **card,
        "name": name,
        "summary": f"{method} with {values}",
        "preset of": method,
        "parameters": {**card["parameters"], **preset},
        "file": str(CONFIGS / "method" / f"{name}.yaml"),
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
    own = registry.tasks().get(name) or (registry.task(name) if ".py" in name else None)
    if own is not None:
        return _embedded(own)
    config = _yaml("task", name)
    return {
        "name": name,
        "summary": _benchmark(config)
        if config["kind"] == "harness"
        else f"{config['kind']}, {config.get('modality', 'image')}",
        **config,
        "file": str(CONFIGS / "task" / f"{name}.yaml"),
    }


def _embedded(card: registry.TaskCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "summary": f"embedded, {card.modality}: {card.summary}",
        **card.config(),
        "options": {key: str(default) for key, default in card.options.items()},
        "meaning": card.sections.get("args"),
        "file": str(card.path),
    }


def _experiment(name: str) -> dict[str, Any]:
    file = CONFIGS / "experiment" / f"{name}.yaml"
    read = experiment.read(file)
    axes: dict[str, list[str]] = {}
    for group in ("model", "method", "task"):
        values = chain.from_iterable(grid.get(group, ()) for grid in read.grids)
        axes[group] = list(dict.fromkeys(values))
    return {
        "name": name,
        "summary": read.title,
        "cells": sum(1 for _ in read.lines({})),
        **axes,
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
