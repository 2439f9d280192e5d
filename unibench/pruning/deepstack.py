"""Features that a text model adds to its visual tokens between decoder layers (DeepStack), cut like
the tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from unibench.pruning.cutting import Segment
from unibench.pruning.family import Family


class Deepstack:
    """Adds them in the text model's stead, to the tokens that are left.

    The text model would add row i to the i-th visual token of the unpruned sequence. It is not
    given the features at all: hooks behind its first layers add each to its own token. A merged
    token has those of its anchor.

    Args:
        family: says how many layers there are.
        current: what the running layer sees; None is the whole prompt.
    """

    def __init__(self, family: Family, current: Callable[[], Segment | None]) -> None:
        self._layers: list[nn.Module] = list(family.text_model.layers)[: family.deepstack]
        self._current = current
        self._visual: Tensor | None = None
        self._features: list[Tensor] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for index, layer in enumerate(self._layers):
                stack.callback(
                    layer.register_forward_hook(functools.partial(self._after_layer, index)).remove
                )
            stack.callback(self.clear)
            yield

    def take(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The text model's arguments without its features, which are noted."""
        self.clear()
        if kwargs.get("deepstack_visual_embeds") is None:
            return kwargs
        self._visual, self._features = (
            kwargs["visual_pos_masks"],
            list(kwargs["deepstack_visual_embeds"]),
        )
        return {**kwargs, "visual_pos_masks": None, "deepstack_visual_embeds": None}

    def clear(self) -> None:
        """Forget the prompt."""
        self._visual, self._features = None, []

    def _after_layer(
        self, index: int, module: nn.Module, args: Any, hidden: Tensor
    ) -> Tensor | None:
        if self._visual is None:
            return None
        visual, part = self._visual.to(hidden.device), self._current()
        rank = (visual.flatten().cumsum(0) - 1).view_as(visual)
        if part is not None:
            origin, valid = part.origin.to(hidden.device), part.valid.to(hidden.device)
            visual, rank = visual.gather(1, origin) & valid, rank.gather(1, origin)
        hidden = hidden.clone()
        hidden[visual] = hidden[visual] + self._features[index].to(hidden)[rank[visual]]
        return hidden
