"""Benchmarks that a harness has and no card here describes: asked under the harness's own name.

The names are read from the harness's sources: importing one takes seconds and changes the process.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml

from unibench import plainyaml
from unibench.config import Harness
from unibench.errors import UsageError, nearest

MODULES: dict[Harness, str] = {"vlmevalkit": "vlmeval", "lmms_eval": "lmms_eval"}
_TASK = re.compile(r"^task\s*:\s*[\"']?([\w.-]+)[\"']?\s*$", re.MULTILINE)


def card(choice: str) -> dict[str, Any] | None:
    """The task card that ``vlmevalkit:AMBER``, ``lmms_eval:mmvet`` or ``./mine.yaml`` stands for;
    None for any other choice.

    Raises:
        UsageError: the harness does not have it, or there is no such file.
    """
    if choice.endswith((".yaml", ".yml")):
        return _of_file(Path(choice).expanduser())
    harness, colon, name = choice.partition(":")
    for known in get_args(Harness):
        if colon and harness == known:
            return _of_harness(known, name)
    return None


def where(name: str) -> str:
    """Who has a benchmark of this name, whatever its case, as a hint; empty for nobody."""
    found = [
        f"task={harness}:{known}"
        for harness in get_args(Harness)
        for known in sorted(names(harness))
        if known.lower() == name.lower()
    ]
    return f". A harness has it: {', '.join(found)}" if found else ""


@cache
def names(harness: Harness) -> frozenset[str]:
    """The benchmarks of an installed harness; empty where it is not installed."""
    spec = importlib.util.find_spec(MODULES[harness])
    if spec is None or spec.origin is None:
        return frozenset()
    folder = Path(spec.origin).parent
    return frozenset(_vlmevalkit(folder) if harness == "vlmevalkit" else _lmms_eval(folder))


def _of_file(file: Path) -> dict[str, Any]:
    try:
        content = plainyaml.loaded(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"task={file}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UsageError(f"task={file} is not valid YAML") from None
    if not isinstance(content, dict):
        raise UsageError(f"task={file} holds no card: a mapping as in configs/task/*.yaml")
    return {"name": file.stem, **content}


def _of_harness(harness: Harness, name: str) -> dict[str, Any]:
    known = names(harness)
    if known and name not in known:
        raise UsageError(f"{harness} has no benchmark {name!r}.{nearest(name, known)}")
    # which numbers it reports is known when it has scored; its rules come first, then a judge
    rules = "exact" if harness == "vlmevalkit" else "none"
    side = {"name": name, "metrics": [], "judges": [rules, "endpoint"]}
    return {"name": name, "kind": "harness", "prefer": harness, harness: side}


def _vlmevalkit(folder: Path) -> Iterator[str]:
    """Every key of every ``DATASET_URL``."""
    for file in sorted((folder / "dataset").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == "DATASET_URL"
                for target in node.targets
            )
            if named and isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                for key in node.value.keys:
                    if isinstance(key, ast.Constant):
                        yield str(key.value)


def _lmms_eval(folder: Path) -> Iterator[str]:
    """Every ``task:`` of every file."""
    for file in (folder / "tasks").rglob("*.yaml"):
        yield from _TASK.findall(file.read_text(encoding="utf-8"))
