"""What the annotations of a dataclass allow: kinds of value and closed sets of values."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

KINDS = {bool: "bool", int: "int", float: "float", str: "str", type(None): "null"}


@dataclass(frozen=True)
class Allowed:
    """What a field may hold.

    Attributes:
        kinds: of value, as a configuration has them: ``int``, ``list of float``, ``map``, ``null``;
            empty where the annotation says nothing that can be checked.
        choices: the values of a ``Literal`` or an ``Enum``.
        classes: classes whose instances the field takes.
    """

    kinds: tuple[str, ...] = ()
    choices: tuple[Any, ...] = ()
    classes: tuple[type, ...] = ()

    def fits(self, value: Any) -> bool:
        """Whether a configured value is one of these; anything fits where nothing is known."""
        value = value.value if isinstance(value, Enum) else value
        if value in self.choices:
            return True
        if not self.kinds:
            return not self.choices
        return any(_fits(value, kind) for kind in self.kinds)

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

    >>> allowed(int | None), allowed(Literal["a", "b"]).choices, allowed(tuple[float, ...]).kinds
    (Allowed(kinds=('int', 'null'), choices=(), classes=()), ('a', 'b'), ('list of float',))
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        parts = [allowed(part) for part in get_args(hint)]
        known = all(part.kinds or part.choices or part.classes for part in parts)
        return Allowed(
            tuple(kind for part in parts for kind in part.kinds) if known else (),
            tuple(choice for part in parts for choice in part.choices) if known else (),
            tuple(cls for part in parts for cls in part.classes),
        )
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
        inner = allowed(get_args(hint)[0]).kinds if get_args(hint) else ()
        return Allowed((f"list of {inner[0]}" if len(inner) == 1 else "list",))
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
