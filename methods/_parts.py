"""Methods that are made of others, which a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unibench import Chain, Method, registry
from unibench.errors import unknown

VARIANTS = ("default", "official_bug")


def part(name: str, options: Mapping[str, Any] | None, **more: Any) -> Method:
    """A method by name with its parameters.

    Raises:
        UsageError: no such method, or no such parameter.
    """
    card = registry.method(name)
    parameters = {**(options or {}), **more}
    for given in parameters:
        if given not in card.parameters:
            raise unknown(
                f"parameter of method {name}",
                given,
                card.parameters,
                f"python -m unibench show method {name}",
            )
    built: Method = card.load()(
        **{
            key: tuple(value) if isinstance(value, list) else value
            for key, value in parameters.items()
        }
    )
    return built


def like(method: Method, parts: Chain) -> None:
    """Give a method what holds for its parts; class attributes cannot say it."""
    for name in ("requires", "adaptive", "text_aware", "data_timed"):
        object.__setattr__(method, name, getattr(parts, name))
