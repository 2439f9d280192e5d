"""How the code of a paper puts a benchmark's questions: the files of ``configs/papers``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from unibench import paths
from unibench.errors import UsageError, unknown

FOLDER = paths.part("configs") / "papers"


@dataclass(frozen=True)
class Paper:
    """A file of ``configs/papers``.

    Attributes:
        title: of the paper.
        harness: that it ran.
        families: by model family the harness's entry and what differs from it, each with its
            ``source``.
    """

    title: str
    harness: str
    families: Mapping[str, Mapping[str, Any]]


def names() -> list[str]:
    """Of all papers."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


@cache
def read(name: str) -> Paper:
    """The paper of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in names():
        raise unknown("convention", f"paper:{name}", (f"paper:{known}" for known in names()))
    return Paper(**yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


def settings(name: str, family: str, harness: str) -> dict[str, Any]:
    """What a paper does with a family of models: fields of a convention.

    Raises:
        UsageError: the paper ran no model of the family, or another harness.
    """
    paper = read(name)
    if harness != paper.harness:
        raise UsageError(
            f"convention=paper:{name} is about {paper.harness}; add harness={paper.harness}"
        )
    if family not in paper.families:
        raise UsageError(
            f"convention=paper:{name} says nothing about family {family}; it has"
            f" {', '.join(paper.families)}"
        )
    return {key: value for key, value in paper.families[family].items() if key != "source"}
