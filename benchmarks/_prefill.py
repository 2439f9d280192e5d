"""Language models of real width without a vision tower to wait for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from unibench.compose import compose_cells
from unibench.models import LoadedModel, load
from unibench.profile.inputs import fixed_inputs


def reduced(model: str, *overrides: str) -> LoadedModel:
    """The architecture of a model with random weights and a few of its sizes changed."""
    (config,) = compose_cells(
        [f"model={model}", "model.weights=random", "model.device=cpu", *overrides], sweep=False
    )
    return load(config.model, config.pixels)


def inputs_of(
    loaded: LoadedModel, size: tuple[int, int], text_tokens: int = 64
) -> dict[str, Tensor]:
    """One prompt with a drawn picture."""
    return fixed_inputs(loaded, size, text_tokens, 1, 0)


@contextmanager
def remembered_vision(loaded: LoadedModel, inputs: dict[str, Any]) -> Iterator[None]:
    """The tower runs once; afterwards its features are handed out again, so that a prefill is the
    language model's.
    """
    kind = type(loaded.family.core)
    original = kind.get_image_features
    kept: list[Any] = []

    @functools.wraps(original)
    def remembered(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not kept:
            kept.append(original(self, *args, **kwargs))
        return kept[0]

    kind.get_image_features = remembered
    try:
        with torch.inference_mode():
            loaded.model(**inputs, use_cache=True, logits_to_keep=1)
        yield
    finally:
        kind.get_image_features = original


def prefill(loaded: LoadedModel, inputs: dict[str, Any]) -> Callable[[], object]:
    """One direct forward up to the first logits."""
    return lambda: loaded.model(**inputs, use_cache=True, logits_to_keep=1)
