"""YAML as plain values, of bounded size: aliases may turn 2 kB into gigabytes."""

from __future__ import annotations

from typing import Any

import yaml

LARGEST = 1 << 20  # signs of a text
NODES = 20_000  # of a text, each alias counted as all that it stands for
DEPTH = 50

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TooLargeError(ValueError):
    """A text stands for more than a configuration ever does."""

    def __init__(self) -> None:
        super().__init__(
            f"it has more than {LARGEST} signs, stands for more than {NODES} values, or is nested"
            f" deeper than {DEPTH}; a configuration never does"
        )


def loaded(text: str) -> Any:
    """What a YAML text stands for: plain values only, no object is constructed.

    Raises:
        TooLargeError: more than it may be.
        yaml.YAMLError, ValueError, RecursionError: it is no YAML.
    """
    return sized(text)[0]


def sized(text: str) -> tuple[Any, int]:
    """The same, and how many values that are."""
    size, depth = measured(text) if len(text) <= LARGEST else (NODES + 1, 0)
    if size > NODES or depth > DEPTH:
        raise TooLargeError
    return yaml.load(text, Loader=_Loader), size


def measured(text: str) -> tuple[int, int]:
    """How many values a YAML text stands for, and how deep they are nested, before anything of it
    is built; no more is counted than is allowed.
    """
    sizes: dict[str | None, int] = {}  # of each anchor's node
    open_nodes: list[tuple[str | None, int]] = []  # its anchor, and what was there before it
    total = depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            # an alias inside its own node has no size yet: it would have no end
            total += sizes.get(event.anchor, NODES + 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        depth = max(depth, len(open_nodes))
        if total > NODES or depth > DEPTH:
            break
    return total, depth
