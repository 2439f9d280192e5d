"""A stage's context made of stored arrays: what the engine would have recorded, without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.golden._cases import Case
from unibench import StageContext
from unibench.pruning import Item, Part

OBJECT_LAYER = 8


class StubFamily:
    """A family whose projector is the identity; ``cls`` says whether its tower has a CLS token."""

    model_types = ("golden",)
    provides = frozenset({"cls_token", "clip_tower"})
    saliency_layer = -2
    object_layer = OBJECT_LAYER
    feature_layer = -2
    deepstack = 0

    def __init__(self, cls: bool) -> None:
        self.prefix_tokens = int(cls)

    def project(self, features: Tensor) -> Tensor:
        return features


@dataclass(frozen=True)
class StubVision:
    """The vision tower's signals as far as a case stores them."""

    arrays: dict[str, Tensor]

    def received(self, layer: int, fill: float = 0.0, **how: Any) -> Tensor:
        if "shallow_scores" in self.arrays:
            return self.arrays[
                "deep_scores" if layer == StubFamily.saliency_layer else "shallow_scores"
            ]
        return self._first("received_attention", "scores", "cls_attention", "importance")

    def cls(self, layer: int, fill: float = 0.0, **how: Any) -> Tensor:
        if "cls_attention_heads" in self.arrays and "cls_attention" not in self.arrays:
            return self.arrays["cls_attention_heads"].mean(0)
        return self._first("cls_attention", "importance")

    def keys(self, layer: int) -> Tensor:
        return self.arrays["keys"][:, None]

    def hidden(self, layer: int) -> Tensor:
        return self.arrays["features"]

    def cls_hidden(self, layer: int) -> Tensor:
        return self.arrays["cls_feature"].expand_as(self.arrays["features"])

    merged = None

    def _first(self, *names: str) -> Tensor:
        return next(self.arrays[name] for name in names if name in self.arrays)


@dataclass
class Notes:
    """What a method stamps into the row."""

    said: set[str] = field(default_factory=set)

    def __call__(self, text: str) -> None:
        self.said.add(text)


def tensors(case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    """The stored arrays, the real ones in ``dtype``."""
    # as_tensor and not from_numpy, which knows no default device
    return {
        name: torch.as_tensor(array).to(dtype)
        if array.dtype.kind == "f"
        else torch.as_tensor(array)
        for name, array in case.arrays.items()
    }


def context(
    case: Case, dtype: torch.dtype, note: Callable[[str], None], layer: int = 0
) -> StageContext:
    """The context of a case whose inputs are projected features and signals of the vision tower.

    The sequence is the visual tokens, then the text, if the case has any.
    """
    arrays = tensors(case, dtype)
    count = _count(case)
    features = arrays.get("features", torch.zeros(count, 1, dtype=dtype))
    text = arrays.get("text")
    has_text = text is not None and text.shape[1:] == features.shape[1:]
    hidden = torch.cat([features, text]) if has_text else features
    family = StubFamily(
        cls="received_attention" not in arrays
        and "q" not in arrays
        and "shallow_scores" not in arrays
    )
    return StageContext(
        layer=layer,
        keep=case.keep,
        total=count,
        hidden=hidden,
        visual=torch.arange(count),
        origin=torch.arange(len(hidden)),
        vision_rows=torch.arange(count),
        items=(Item(0, count, _parts(case.params, count)),),
        vision=StubVision(arrays),
        family=family,  # type: ignore[arg-type]
        sample=case.name,
        note=note,
    )


def narrowed(ctx: StageContext, start: int, stop: int, keep: int) -> StageContext:
    """The context of a pool of its own: the visual tokens from ``start`` to ``stop``."""
    rows = ctx.visual[start:stop]
    return replace(
        ctx,
        visual=rows,
        vision_rows=ctx.vision_rows[start:stop],
        keep=keep,
        total=stop - start,
        items=(),
        sample=f"{ctx.sample}/{start}",
    )


@dataclass(frozen=True)
class Attended(StageContext):
    """A context that is told its attention rows: stored ones may be rounded, which queries and keys
    cannot give.

    Attributes:
        rows: ``[heads, queries, N]`` of the only layer the method asks for.
    """

    rows: Tensor = field(default_factory=lambda: torch.empty(0))

    def attention(self, layer: int, queries: Tensor | None = None) -> Tensor:
        return self.rows


def same_rows(expected: np.ndarray, rows: Tensor, atol: float = 2e-4) -> bool:
    """Whether two sets of rows are equal, whatever their order."""
    if tuple(rows.shape) != expected.shape:
        return False
    apart = (torch.from_numpy(expected).to(rows)[:, None] - rows[None]).abs().amax(-1)
    for line in range(len(apart)):
        found = apart[line].argmin()
        if apart[line, found] > atol:
            return False
        apart[:, found] = torch.inf
    return True


def _count(case: Case) -> int:
    for name in ("features", "importance", "num_tokens"):
        if name in case.arrays:
            array = case.arrays[name]
            return int(array) if array.ndim == 0 else len(array)
    return int(case.arrays["visual_end"] - case.arrays["visual_start"])


def _parts(params: dict[str, Any], count: int) -> tuple[Part, ...]:
    height, width = (
        params.get(f"grid_{side[0]}") or params.get(side) for side in ("height", "width")
    )
    if not height and not width:
        return ()
    return (Part(1, int(height or count // width), int(width or count // height)),)
