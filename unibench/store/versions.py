"""The releases of packages that decide an answer: half of a cell's answers from one release and
half from another would be a measurement of neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from unibench.store.data import shown

DECIDING = ("torch", "transformers", "tokenizers", "pillow", "qwen-vl-utils")


@cache
def installed() -> Mapping[str, str]:
    """The releases in this environment, of those that are there."""
    found = {}
    for name in DECIDING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def named(environment: Mapping[str, Any]) -> dict[str, str]:
    """The releases that a stored environment names; an imported run names none."""
    packages = environment.get("packages")
    known = packages if isinstance(packages, Mapping) else {}
    return {name: shown(known[name]) for name in DECIDING if isinstance(known.get(name), str)}


def said(environments: Iterable[Mapping[str, Any]]) -> str:
    """The releases of the runs of a cell, for its row: ``torch 2.9.0, pillow 11.0.0``; those of
    runs that differ, one behind the other.
    """
    texts = [
        ", ".join(f"{name} {release}" for name, release in named(one).items())
        for one in environments
    ]
    return " + ".join(dict.fromkeys(filter(None, texts)))


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """In which packages two runs differ, in words; empty where they agree in all that both name.

    >>> differing({"torch": "2.8", "pillow": "11"}, {"torch": "2.9", "pillow": "11"})
    'torch 2.8 there and 2.9 here'
    """
    apart = [name for name in before if name in now and before[name] != now[name]]
    return ", ".join(f"{name} {before[name]} there and {now[name]} here" for name in apart)


def several(texts: Iterable[str]) -> str:
    """What a table says of cells whose rows name other releases; empty where all agree.

    Args:
        texts: of :func:`said`.

    >>> several(["torch 2.8, pillow 11", "torch 2.9, pillow 11 + torch 2.8, pillow 11", ""])
    'its cells were answered under several releases: torch 2.8 and 2.9'
    """
    found: dict[str, dict[str, None]] = {}
    for text in dict.fromkeys(texts):
        if not isinstance(text, str):  # of a frame that was not made of rows
            continue
        for part in filter(None, text.replace(" + ", ", ").split(", ")):
            name, _, release = part.partition(" ")
            found.setdefault(name, {})[release] = None
    apart = [
        f"{name} {' and '.join(sorted(releases))}"
        for name, releases in found.items()
        if len(releases) > 1
    ]
    return f"its cells were answered under several releases: {', '.join(apart)}" if apart else ""
