"""The model's own knob for the number of tokens of a picture, turned to a budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unibench.errors import UsageError
from unibench.models import LoadedModel

# token classes of Gemma 4's image processor, which refuses others
SOFT_TOKENS = (70, 140, 280, 560, 1120)


def with_limits(loaded: LoadedModel, **edges: int) -> LoadedModel:
    """A model whose processor has other limits of a picture's size, in pixels."""
    own = loaded.image_options.get("size") or dict(loaded.processor.image_processor.size)
    return _with(loaded, size={**own, **edges})


def native_budget(loaded: LoadedModel, most: int, factor: int) -> LoadedModel:
    """The model with the largest setting of its own under which no picture, or none of the usual
    shape, has more tokens.

    Args:
        loaded: the model.
        most: tokens of a picture.
        factor: pixels along an edge of a token, where a picture is read in its own size; else 0.

    Raises:
        UsageError: the processor has no such setting, or none so small.
    """
    processor = loaded.processor.image_processor
    if factor:
        own = loaded.image_options.get("size") or dict(processor.size)
        least = min(int(own.get("shortest_edge", 0)), most * factor**2)
        return with_limits(loaded, shortest_edge=least, longest_edge=most * factor**2)
    if hasattr(processor, "max_soft_tokens"):
        fitting = [tokens for tokens in SOFT_TOKENS if tokens <= most]
        return _with(loaded, max_soft_tokens=_last(fitting, most, SOFT_TOKENS[0]))
    if getattr(processor, "max_patches", 1) > 1:
        # beside several tiles stands the whole picture once more
        tile = int(loaded.processor.image_seq_length)
        tiles = range(1, int(processor.max_patches) + 1)
        fitting = [n for n in tiles if (n + (n > 1)) * tile <= most]
        return _with(loaded, max_patches=_last(fitting, most, tile))
    if hasattr(processor, "max_image_size") and "longest_edge" in dict(processor.size):
        tile, edge = (
            int(loaded.processor.image_seq_len),
            int(processor.max_image_size["longest_edge"]),
        )
        sides = range(1, int(processor.size["longest_edge"]) // edge + 1)
        fitting = [n for n in sides if (n * n + (n > 1)) * tile <= most]
        return _with(loaded, size={"longest_edge": _last(fitting, most, tile) * edge})
    raise UsageError(
        "control=native_budget turns a setting of the processor, and this model's has none; take"
        " control=resize, control=resize_blur or method=pooling"
    )


def _last(fitting: list[int], most: int, least: int) -> int:
    if not fitting:
        raise UsageError(
            f"control=native_budget: the smallest setting of this model reads {least} tokens of a"
            f" picture, and the budget is {most}"
        )
    return fitting[-1]


def _with(loaded: LoadedModel, **options: Any) -> LoadedModel:
    return replace(loaded, image_options={**loaded.image_options, **options})
