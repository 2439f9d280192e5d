"""What the annotations of a dataclass allow: kinds of value, closed sets and ranges of values."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

KINDS = {bool: "bool", int: "int", float: "float", str: "str", type(None): "null"}


@dataclass(frozen=True)
class Range:
    """The numbers that a field takes, in an ``Annotated``; of a list, each of them. Infinity is
    outside of every range.

    Attributes:
        least, most: the ends; None where there is none.
        above, below: whether a number must be more than the least, less than the most.
        why: the reason, where the numbers do not tell it.
    """

    least: float | None = None
    most: float | None = None
    above: bool = False
    below: bool = False
    why: str = ""

    def __contains__(self, number: float) -> bool:
        low = -math.inf if self.least is None else self.least
        high = math.inf if self.most is None else self.most
        if not math.isfinite(number) or number < low or number > high:
            return False
        return not (self.above and number == low) and not (self.below and number == high)

    def __str__(self) -> str:
        low, high = (
            None if end is None else f"{word}{end:g}"
            for end, word in (
                (self.least, "above " if self.above else "at least "),
                (self.most, "below " if self.below else "at most "),
            )
        )
        words = " and ".join(filter(None, (low, high))) or "a finite number"
        return f"{words} ({self.why})" if self.why else words


@dataclass(frozen=True)
class Allowed:
    """What a field may hold.

    Attributes:
        kinds: of value, as a configuration has them: ``int``, ``list of float``, ``map``, ``null``;
            empty where the annotation says nothing that can be checked.
        choices: the values of a ``Literal`` or an ``Enum``.
        classes: classes whose instances the field takes.
        range: of its numbers, None where any will do.
    """

    kinds: tuple[str, ...] = ()
    choices: tuple[Any, ...] = ()
    classes: tuple[type, ...] = ()
    range: Range | None = None

    def fits(self, value: Any) -> bool:
        """Whether a configured value is one of these; anything fits where nothing is known."""
        value = value.value if isinstance(value, Enum) else value
        if value in self.choices:
            return True
        if not self.kinds:
            return not self.choices
        return any(_fits(value, kind) for kind in self.kinds)

    def outside(self, value: Any) -> Range | None:
        """The range that a value of a right kind lies outside of; None if it does not."""
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if self.range is None or value in self.choices:
            return None
        wrong = any(type(one) in (int, float) and one not in self.range for one in numbers)
        return self.range if wrong else None

    def typed(self, value: Any) -> Any:
        """A configured value as the field holds it: tuples for lists, members for their values."""
        for cls in self.classes:
            if issubclass(cls, Enum) and value in self.choices:
                return cls(value)
        return tuple(map(self.typed, value)) if isinstance(value, list) else value


def fields_of(cls: type) -> dict[str, Allowed]:
    """What each field of a dataclass may hold; a class that is no dataclass has no fields."""
    return _fields_of(cls)


@cache
def _fields_of(cls: type) -> dict[str, Allowed]:
    if not dataclasses.is_dataclass(cls):
        return {}
    return {field.name: allowed(_hint(cls, field)) for field in dataclasses.fields(cls)}


def allowed(hint: Any) -> Allowed:
    """What an annotation allows.

    >>> allowed(int | None).kinds, allowed(Literal["a", "b"]).choices
    (('int', 'null'), ('a', 'b'))
    >>> allowed(tuple[float, ...]).kinds
    ('list of float',)
    >>> str(allowed(Annotated[int, Range(1)] | None).range)
    'at least 1'
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        parts = [allowed(part) for part in get_args(hint)]
        known = all(part.kinds or part.choices or part.classes for part in parts)
        return Allowed(
            tuple(kind for part in parts for kind in part.kinds) if known else (),
            tuple(choice for part in parts for choice in part.choices) if known else (),
            tuple(cls for part in parts for cls in part.classes),
            next((part.range for part in parts if part.range is not None), None),
        )
    if origin is Annotated:
        kind, *notes = get_args(hint)
        limits = next((note for note in notes if isinstance(note, Range)), None)
        return dataclasses.replace(allowed(kind), range=limits)
    if origin is Literal:
        return Allowed(choices=get_args(hint))
    if hint is None or hint in KINDS:
        return Allowed((KINDS.get(hint, "null"),))
    container = origin or hint
    if not isinstance(container, type):
        return Allowed()
    if issubclass(container, Enum):
        return Allowed(choices=tuple(entry.value for entry in container), classes=(container,))
    if issubclass(container, Mapping):
        return Allowed(("map",))
    if issubclass(container, Sequence):
        entry = allowed(get_args(hint)[0]) if get_args(hint) else Allowed()
        kind = f"list of {entry.kinds[0]}" if len(entry.kinds) == 1 else "list"
        return Allowed((kind,), range=entry.range)
    return Allowed() if container is object else Allowed(classes=(container,))


def _fits(value: Any, kind: str) -> bool:
    if kind.startswith("list"):
        _, _, inner = kind.partition(" of ")
        listed = isinstance(value, (list, tuple))
        return listed and (not inner or all(_fits(entry, inner) for entry in value))
    if kind == "map":
        return isinstance(value, Mapping)
    if kind == "float":
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and value == value  # NaN would order nothing
    return KINDS.get(type(value)) == kind  # True is no int here


def _hint(cls: type, field: dataclasses.Field[Any]) -> Any:
    """The annotation of a field; ``Any`` if it names what only type checkers import.

    ``typing.get_type_hints`` gives up on the whole class when one name is missing.
    """
    if not isinstance(field.type, str):
        return field.type
    owner = next(base for base in cls.__mro__ if field.name in inspect.get_annotations(base))
    names = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
    try:
        return eval(field.type, dict(names), dict(vars(owner)))
    except Exception:
        return Any


# -- the ranges of methods' parameters

Natural = Annotated[int, Range(0)]
Count = Annotated[int, Range(1)]
Window = Annotated[int, Range(2)]  # of patches by patches; one alone has no neighbour
Behind = Annotated[int, Range(1, why="it looks at the layer before")]
Block = Annotated[int, Range()]  # of the tower, which knows its number; negative from the end
Share = Annotated[float, Range(0, 1)]
Some = Annotated[float, Range(0, 1, above=True)]  # a share that leaves something
NotAll = Annotated[float, Range(0, 1, below=True)]
Cosine = Annotated[float, Range(-1, 1)]
Positive = Annotated[float, Range(0, above=True)]
Weight = Annotated[float, Range(0)]
Finite = Annotated[float, Range()]
