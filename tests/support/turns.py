"""Which part of a product of methods, families, prompts and kernels the default tests run.

The whole product takes hours. By default every name meets a family or several of them once each,
and prompts, kernels and whatever else there is take turns, so that each value is met by some name on
each family; the rest of the product is marked slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from tests.support.models import FAMILIES, QUICK

Ways = Sequence[tuple[Any, ...]]
KERNELS: Ways = (("sdpa",), ("eager",))


def either_kernel(name: Any, family: str) -> Ways:
    """Both attention kernels, whatever the name and the family."""
    return KERNELS


def one_or_several(name: Any, family: str) -> Ways:
    """A prompt alone, and a ragged batch."""
    return (("single",), ("ragged",))


def once(name: Any, family: str) -> Ways:
    """A family in one way."""
    return ((),)


def plain(name: str) -> bool:
    """Whether a name is that of a method, and not of a further form in brackets."""
    return "[" not in name


def in_turn(
    argnames: str,
    names: Iterable[Any],
    ways: Callable[[Any, str], Ways],
    *,
    on: int | None = None,
    quick: Sequence[str] = QUICK,
    serves: Callable[[Any, str], bool] = lambda name, family: True,
    often: Callable[[Any], bool] = lambda name: True,
) -> pytest.MarkDecorator:
    """Every name on every family in every way; slow, but for one way of some families.

    Args:
        argnames: of the name (none if it is an empty tuple), the family and the parts of a way.
        names: of methods, for example.
        ways: what there is for a name on a family, such as ``(prompt, kernel)``; perhaps nothing.
        on: how many families a name meets by default; None stands for all of ``quick``.
        quick: families in the default tests.
        serves: whether a family can serve a name; one that can is taken by default.
        often: whether a name is met by default at all.
    """
    wanted = len(quick) if on is None else on
    cases = []
    for number, name in enumerate(names):
        able = [family for family in quick if serves(name, family)] or quick
        met = {able[(number + step) % len(able)] for step in range(wanted if often(name) else 0)}
        for family in FAMILIES:
            # a name that meets one family moves to another way when each family had its turn
            turn = number // (1 + len(quick) - wanted)
            turn += quick.index(family) if family in quick else 0
            every = ways(name, family)
            for place, way in enumerate(every):
                default = family in met and place == turn % len(every)
                marks = [] if default else [pytest.mark.slow]
                first = name if isinstance(name, tuple) else (name,)
                cases.append(pytest.param(*first, family, *way, marks=marks))
    return pytest.mark.parametrize(argnames, cases)


def one_in(every: int, names: Iterable[Any]) -> Callable[[Any], bool]:
    """Whether a name is the first of so many, for ``often`` of :func:`in_turn`."""
    return frozenset(list(names)[::every]).__contains__


def some_of(
    argnames: str, cases: Iterable[Any], every: int, **options: Any
) -> pytest.MarkDecorator:
    """One case in so many by default, beginning with the first; the others are slow.

    Args:
        argnames: as :func:`pytest.mark.parametrize` takes them, in one text.
        cases: values, tuples of them for several names, or ``pytest.param``.
        every: how many cases one stands for.
        options: further ones of ``parametrize``.
    """
    marked = []
    for number, case in enumerate(cases):
        if not hasattr(case, "marks"):
            case = pytest.param(*case) if "," in argnames else pytest.param(case)
        marks = case.marks if number % every == 0 else [*case.marks, pytest.mark.slow]
        marked.append(pytest.param(*case.values, id=case.id, marks=marks))
    return pytest.mark.parametrize(argnames, marked, **options)


# every family with both kernels; by default the quick ones with one each
kernels = in_turn("family, attn", [()], either_kernel)
