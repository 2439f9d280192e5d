"""Suites: the benchmarks that a paper reports, under one name that stands where a task's name
stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from unibench.errors import UsageError, unknown

PREFIX = "suite_"


@dataclass(frozen=True)
class Suite:
    """A YAML file of ``configs/suite``.

    Attributes:
        title: name of the paper.
        harness: harness that the paper used.
        tasks: names of task cards, each with the metric of the card that the paper prints.
    """

    title: str
    harness: str
    tasks: dict[str, str]


@cache
def read(folder: Path, name: str) -> Suite:
    """The suite of a name.

    Raises:
        UsageError: there is none.
    """
    file = folder / f"{name}.yaml"
    if not file.is_file():
        raise unknown(
            "suite",
            name,
            (path.stem for path in folder.glob("*.yaml")),
            "python -m unibench list suites",
        )
    return Suite(**yaml.safe_load(file.read_text(encoding="utf-8")))


def spelled_out(overrides: Sequence[str], folder: Path) -> list[str]:
    """Overrides with each suite replaced by its tasks, and with its harness unless one is given.

    Args:
        overrides: in Hydra's grammar.
        folder: of the suites.

    Raises:
        UsageError: a suite does not exist, or several want different harnesses.
    """
    suites: list[Suite] = []
    lines = [_line(line, folder, suites) for line in overrides]
    if not suites or any(line.startswith("harness=") for line in overrides):
        return lines
    harnesses = sorted({suite.harness for suite in suites})
    if len(harnesses) > 1:
        raise UsageError(
            f"these suites want the harnesses {' and '.join(harnesses)}; give one, for example"
            f" harness={harnesses[0]}"
        )
    return [*lines, f"harness={harnesses[0]}"]


def has_suite(overrides: Iterable[str]) -> bool:
    """Whether a suite stands among the tasks: then there are several cells without ``-m``."""
    return any(name.startswith(PREFIX) for line in overrides for name in _tasks(line))


def _line(line: str, folder: Path, suites: list[Suite]) -> str:
    if not has_suite([line]):
        return line
    tasks: dict[str, None] = {}  # a task that two suites share is run once
    for name in _tasks(line):
        if name.startswith(PREFIX):
            suites.append(read(folder, name))
            tasks |= dict.fromkeys(suites[-1].tasks)
        else:
            tasks[name] = None
    return f"task={','.join(tasks)}"


def _tasks(line: str) -> list[str]:
    key, _, value = line.partition("=")
    return [name.strip() for name in value.split(",")] if key == "task" else []
