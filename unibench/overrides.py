"""Overrides in Hydra's grammar: the words of a command read, and its sweeps spelled out."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString

from unibench.errors import UsageError

MOST_CELLS = 200_000
PATHS = (
    "out",
    "shared",
    "method",
    "experiment",
    "task.data",
    "task.score",
    "model.path",
    "model.clip",
    "model.selector",
    "method.selector_path",
    "harness_options.python",
)
"""Keys whose values get quotes where Hydra's grammar cannot read them (``task.data=/run=3``)."""


@contextmanager
def refusing(line: str) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise about something that the user wrote into a usage error.

    Args:
        line: what the user wrote, which the message names first.
    """
    try:
        yield
    except UsageError:
        raise
    # casts, sweeps and resolvers run on the user's text and raise anything
    except Exception as error:
        raise UsageError(f"{line}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """The first line of the innermost cause of an error that says anything."""
    said = type(error).__name__
    inner: BaseException | None = error
    while inner is not None:
        said = next((line.strip() for line in str(inner).splitlines() if line.strip()), said)
        inner = inner.__cause__
    return said


@cache
def parse(line: str) -> Override:
    """One override. Reading takes milliseconds, and the cells of a grid share most of their lines.

    Raises:
        UsageError: it is no override.
    """
    parser = OverridesParser.create()
    try:
        (override,) = parser.parse_overrides([line])
    except Exception as error:
        quoted = _quoted(line)
        if quoted != line:
            return parse(quoted)
        key, sign, value = (part.strip() for part in line.partition("="))
        if sign and value and re.match(r"[\w.@/+~]+\s+=", line):
            raise UsageError(f"overrides are written without spaces: {key}={value}") from None
        raise UsageError(
            f"cannot read {line!r}: {reason(error)}. Write key=value, for example ratio=0.889; a"
            " value with spaces, brackets or = in it needs quotes: \"key='a=b'\""
        ) from None
    if not override.key_or_group:
        raise UsageError(f"cannot read {line!r}: there is no key. Write key=value")
    return override


def _quoted(line: str) -> str:
    """An override of a path with quotes around it, or around each one of a list."""
    key, _, value = line.partition("=")
    if key.lstrip("+") not in PATHS or "'" in value or '"' in value:
        return line
    paths = [QuotedString(path, Quote.single).with_quotes() for path in value.split(",")]
    return f"{key}={','.join(paths)}"


def name_of(override: Override) -> str:
    """The key without the signs before it."""
    return str(override.get_key_element().lstrip("+~"))


def is_plain(override: Override) -> bool:
    """Whether it sets a key that is there: no ``+``, ``++`` or ``~``, no package."""
    return not (
        override.is_add()
        or override.is_force_add()
        or override.is_delete()
        or override.package is not None
    )


def combinations(
    overrides: Sequence[Override], sweep: bool, options: Callable[[str], Sequence[str]]
) -> Iterator[list[Override]]:
    """The overrides of each cell, without sweeps; the last sweep given varies fastest.

    Args:
        overrides: of a command.
        sweep: whether comma lists make a grid.
        options: names of a group, for ``glob(*)``.

    Raises:
        UsageError: a list without ``sweep``, a sweep of no values, or too many cells.
    """
    axes: list[list[Override]] = []
    for override in overrides:
        if not override.is_sweep_override():
            axes.append([override])
            continue
        if not sweep:
            raise UsageError(
                f"{override.input_line} is a list: add -m to run one cell for each of its values,"
                " or put it in quotes if it is one value"
            )
        axes.append(_swept(override, options))
    if math.prod(map(len, axes)) > MOST_CELLS:
        raise UsageError(f"these words mean more than {MOST_CELLS:,} cells")
    yield from (list(combination) for combination in itertools.product(*axes))


def _swept(override: Override, options: Callable[[str], Sequence[str]]) -> list[Override]:
    """An override for each value of a sweep."""
    line = str(override.input_line)
    with refusing(line):
        sweep = override.value()
        values = (
            sweep.filter(list(options(override.key_or_group)))
            if isinstance(sweep, Glob)
            else list(itertools.islice(override.sweep_string_iterator(), MOST_CELLS + 1))
        )
    if not values or len(values) > MOST_CELLS:
        raise UsageError(f"{line} has {f'more than {MOST_CELLS:,}' if values else 'no'} values")
    return [parse(f"{override.get_key_element()}={value}") for value in values]
