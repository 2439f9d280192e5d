"""Options of a verb among the overrides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unibench.errors import UsageError


def taken(
    words: Sequence[str], *, flags: Sequence[str] = (), values: Mapping[str, Callable[[str], Any]]
) -> tuple[list[str], dict[str, Any]]:
    """The words that are no options, and the options that were given.

    Args:
        words: of the command line.
        flags: options without a value.
        values: options with one (``--name value`` or ``--name=value``), and what reads it.

    Raises:
        UsageError: a value is missing or cannot be read.

    >>> taken(["-m", "ratio=0.5", "--gpus", "0", "--json"], flags=["--json"], values={"--gpus": str})
    (['-m', 'ratio=0.5'], {'--gpus': '0', '--json': True})
    """
    rest: list[str] = []
    found: dict[str, Any] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, _, given = word.partition("=")
        if word in flags:
            found[word] = True
        elif name in values:
            if not given and not queue:
                raise UsageError(f"{name} needs a value")
            given = given or queue.pop(0)
            try:
                found[name] = values[name](given)
            except ValueError:
                raise UsageError(f"{name} {given}: a number is wanted") from None
        else:
            rest.append(word)
    return rest, found
