"""The library's front door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unibench import registry
from unibench.budget import Budget, Number
from unibench.errors import unknown
from unibench.pruning import Family, Method, Session
from unibench.registry import build_method as build_method

SCOPES = ("sequence", "item", "tile")


def family_of(model: Any) -> Family:
    """The adapter of a Hugging Face model.

    Raises:
        UsageError: no family serves its ``config.model_type``.
    """
    family: Family = registry.family_of(model.config.model_type).load()(model)
    return family


@contextmanager
def prune(
    model: Any,
    method: Method | str,
    *,
    ratio: Number | None = None,
    retention: Number | None = None,
    keep: int | None = None,
    scope: str = "sequence",
    mode: str = "at_stage",
    seed: int = 0,
    **parameters: Any,
) -> Iterator[Session]:
    """Prune every prompt that ``model`` reads inside the block; outside it the model is as it was.

    Args:
        model: a Hugging Face image-text-to-text model; who calls ``generate`` does not matter.
        method: a :class:`Method`, or its name.
        ratio: share of visual tokens REMOVED; or
        retention: share kept; or
        keep: number kept.
        scope: ``"sequence"``, ``"item"`` or ``"tile"``: one budget for all images of a prompt, or
            one for each image or video, or for each tile or frame.
        mode: ``"at_stage"`` or ``"layer_average"``: tokens left after the cuts, or processed per
            layer on average.
        seed: for methods that draw.
        **parameters: of the method, when it is given by name.

    Raises:
        UsageError: unknown names, a budget out of range, a family that cannot serve the method.
    """
    built = build_method(method, **parameters) if isinstance(method, str) else method
    budget = Budget.parse(ratio, retention, keep)
    if scope not in SCOPES:
        raise unknown("budget scope", scope, SCOPES)
    if mode not in ("at_stage", "layer_average"):
        raise unknown("budget mode", mode, ("at_stage", "layer_average"))
    with Session(
        model, built, family_of(model), budget, scope=scope, mode=mode, seed=seed
    ).installed() as session:
        yield session
