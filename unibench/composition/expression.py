"""Expressions: ``score: saliency; select: mmr(weight=0.5)``, or the same as a YAML mapping."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

import yaml

from unibench.composition.atoms import (
    ATOMS,
    Atom,
    Before,
    Behind,
    Budget,
    Combine,
    Drop,
    Kind,
    MaxMin,
    Merge,
    Schedule,
    Score,
    Select,
    TopK,
    Weighted,
    Whole,
)
from unibench.errors import UsageError, unknown
from unibench.pruning import Needs

FORM = re.compile(r"\s*([a-z_]+)\s*(?:\((.*)\))?\s*$")
BETWEEN = re.compile(r",(?![^(]*\))")  # commas that are in no brackets


@dataclass(frozen=True)
class Expression:
    """The parts of a method, each of its own kind.

    Attributes:
        scores: none, one or several.
        combine, select, budget, merge, schedule: one of each.
    """

    scores: tuple[Score, ...] = ()
    combine: Combine = field(default_factory=Weighted)
    select: Select = field(default_factory=TopK)
    budget: Budget = field(default_factory=Whole)
    merge: Merge = field(default_factory=Drop)
    schedule: Schedule = field(default_factory=Before)

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """All parts."""
        return (
            *self.scores, self.combine, self.select, self.budget, self.merge, self.schedule,
        )  # fmt: skip

    @property
    def needs(self) -> Needs:
        """What must be recorded for all of them."""
        needs = Needs()
        for atom in self.atoms:
            needs |= atom.needs
        if any(atom.layer_wise for atom in self.atoms):
            needs |= Needs(llm_attention=(self.schedule.cut() - 1,))
        return needs


@cache
def parsed(text: str) -> Expression:
    """The parts that an expression names.

    Args:
        text: ``kind: atom(parameter=value); kind: atom, atom``; entries may stand in lines as well.

    Raises:
        UsageError: a kind, an atom or a parameter that does not exist, or parts that do not fit.
    """
    entries = dict(_entries(text))
    known = {str(kind): atoms for kind, atoms in ATOMS.items()}
    found: dict[str, Any] = {}
    for kind, words in entries.items():
        if kind not in known:
            raise unknown("part of an expression", kind, known)
        atoms = tuple(_atom(kind, word) for word in BETWEEN.split(words))
        if kind == "score":
            found["scores"] = atoms
        elif len(atoms) > 1:
            raise UsageError(f"{kind}: {words}: one is wanted; only scores may be several")
        else:
            found[kind] = atoms[0]
    expression = Expression(**found)
    _check(text, expression)
    return expression


def _entries(text: str) -> Iterator[tuple[str, str]]:
    for entry in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
        kind, colon, words = entry.partition(":")
        if not colon or not words.strip():
            raise UsageError(
                f"{entry}: kind: atom is wanted, such as score: saliency; select: mmr(weight=0.5)"
            )
        yield kind.strip(), words.strip()


def _atom(kind: Kind | str, word: str) -> Atom:
    known: Mapping[str, type[Atom]] = ATOMS[kind]  # type: ignore[index]
    form = FORM.match(word)
    if form is None:
        raise UsageError(f"{kind}: {word.strip()}: name or name(parameter=value) is wanted")
    name, inside = form[1], form[2]
    if name not in known:
        raise unknown(kind, name, known)
    values: dict[str, Any] = {}
    allowed = [one.name for one in fields(known[name])]
    for pair in filter(None, (part.strip() for part in (inside or "").split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or key not in allowed:
            raise unknown(f"parameter of {kind} {name}", key, allowed)
        number = yaml.safe_load(value)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise UsageError(f"{kind}: {name}({key}={value}): a number is wanted")
        values[key] = number
    return known[name](**values)


def _check(text: str, expression: Expression) -> None:
    """Refuse parts that do not fit together.

    Raises:
        UsageError: it says which.
    """
    if not expression.scores and not isinstance(expression.select, MaxMin):
        raise UsageError(f"{text}: its select needs a score")
    layer_wise = any(atom.layer_wise for atom in expression.atoms)
    behind = isinstance(expression.schedule, Behind) and expression.schedule.cut() >= 1
    if layer_wise and not behind:
        raise UsageError(f"{text}: attention needs schedule: behind(layer=...), at least 1")
    if not isinstance(expression.merge, Drop) and not expression.budget.even(64):
        raise UsageError(f"{text}: merge: contextual needs budget: split(share=...)")
