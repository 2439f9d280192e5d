"""Dataclasses as a schema: closed sets and ranges in their annotations, values built and checked.

OmegaConf 2.3 knows neither ``Literal`` nor ranges. It is given the same dataclasses with ``str`` in
place of a ``Literal``; what it composes is then built and checked here.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from unibench.errors import UsageError, unknown

LARGEST = 2**63 - 1  # torch's generators and Python's iterators take no larger integer
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    NoneType: "null",
    Any: "a value",
}


@dataclasses.dataclass(frozen=True)
class Least:
    """The smallest value of a number, in an ``Annotated``; ``above``: it must be larger. ``most``:
    the largest.
    """

    value: int
    above: bool = False
    most: int = LARGEST


def build(hint: Any, value: Any) -> Any:
    """A value of a type from plain ones, as YAML and JSON have them: dataclasses, at any depth.

    Raises:
        UsageError: a key that a dataclass does not have, or another form.
    """
    kind = _dataclass_in(hint)
    if value is not None and get_origin(hint) is list:
        (inner,) = get_args(hint)
        return [build(inner, entry) for entry in value]
    if value is None or kind is None:
        return value
    hints = get_type_hints(kind)
    if not isinstance(value, Mapping) or not value.keys() <= hints.keys():
        raise UsageError(f"{value!r} is not a configuration of {kind.__name__}")
    return kind(**{key: build(hints[key], entry) for key, entry in value.items()})


@cache
def without_literals(hint: Any) -> Any:
    """A type as OmegaConf can read it: ``str`` stands in place of a ``Literal``."""
    if get_origin(hint) is Literal:
        return str
    if get_args(hint):
        inner = tuple(without_literals(entry) for entry in get_args(hint))
        origin: Any = Union if get_origin(hint) is UnionType else get_origin(hint)
        return origin[inner]
    kind: Any = hint
    if not dataclasses.is_dataclass(kind):
        return hint
    hints, made = get_type_hints(kind), list[tuple[str, Any, Any]]()
    for spec in dataclasses.fields(kind):
        copied = dataclasses.field(default=spec.default)
        if spec.default_factory is not dataclasses.MISSING:
            factory: Any = spec.default_factory
            copied = dataclasses.field(default_factory=without_literals(factory))
        made.append((spec.name, without_literals(hints[spec.name]), copied))
    return dataclasses.make_dataclass(hint.__name__, made)


def mistakes(value: Any) -> Iterator[UsageError]:
    """What is wrong with the values of a dataclass: outside of a closed set, or of a range."""
    kind: Any = type(value)
    for rule in _rules(kind):
        entry = functools.reduce(
            lambda node, key: None if node is None else getattr(node, key),
            rule.key.split("."),
            value,
        )
        if (error := rule.mistake(entry)) is not None:
            yield error


def wanted(kind: Any, key: str) -> str:
    """What a dotted key of a dataclass takes, in words: ``a whole number or null``."""
    hint: Any = kind
    for name in key.split("."):
        inner = _dataclass_in(hint)
        hint = Any if inner is None else get_type_hints(inner).get(name, Any)
    words: list[str] = []
    for entry in _alternatives(hint):
        if get_origin(entry) is Literal:
            words += get_args(entry)
        else:
            words.append(WORDS.get(get_origin(entry) or entry, "a mapping"))
    return " or ".join(words)


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What a value may be, beyond its type.

    Attributes:
        key: dotted key.
        choices: closed set of names; empty if any name will do.
        least: smallest number, None if the value is no number or may be any.
    """

    key: str
    choices: tuple[str, ...]
    least: Least | None

    def mistake(self, value: Any) -> UsageError | None:
        """What is wrong with a value, None if nothing is."""
        if value is None or value in self.choices:
            return None
        if self.least is None or isinstance(value, str):
            return unknown(self.key, str(value), self.choices) if self.choices else None
        if not math.isfinite(value):
            return UsageError(f"{self.key}={value} is not a finite number")
        least = self.least
        if value < least.value or (least.above and value == least.value):
            border = f"more than {least.value}" if least.above else f"at least {least.value}"
            return UsageError(f"{self.key}={value} is too small; {border}")
        if value > least.most:
            return UsageError(f"{self.key}={value} is too large; at most {least.most}")
        return None


@cache
def _rules(kind: Any, prefix: str = "") -> tuple[_Rule, ...]:
    """The rules of a dataclass and of those inside it."""
    found: list[_Rule] = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        choices: list[str] = []
        least = None
        for entry in _alternatives(hint):
            inner: Any = entry  # to mypy, a dataclass is not hashable
            if dataclasses.is_dataclass(entry):
                found += _rules(inner, f"{prefix}{name}.")
            elif get_origin(entry) is Literal:
                choices += get_args(entry)
            elif get_origin(entry) is Annotated:
                least = get_args(entry)[1]
        if choices or least:
            found.append(_Rule(f"{prefix}{name}", tuple(choices), least))
    return tuple(found)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union; another type alone."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _dataclass_in(hint: Any) -> Any:
    """The dataclass that a type is or, in a union, may be; None if there is none."""
    return next((entry for entry in _alternatives(hint) if dataclasses.is_dataclass(entry)), None)
