"""Features that a text model adds to its visual tokens between decoder layers (DeepStack), cut like
the tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from unibench.pruning.family import Family
from unibench.pruning.prefill import Added, Prefill, Reading


class Deepstack:
    """Adds them in the text model's stead, to the tokens that are left.

    The text model would add row i to the i-th visual token of the unpruned sequence. It is not
    given the features at all: hooks behind its first layers add each to its own token. A merged
    token has those of its anchor.

    Args:
        family: says how many layers there are.
        reading: the prefill under way.
    """

    def __init__(self, family: Family, reading: Reading) -> None:
        self._layers: list[nn.Module] = list(family.text_model.layers)[: family.deepstack]
        self._reading = reading

    @contextmanager
    def installed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for index, layer in enumerate(self._layers):
                hook = functools.partial(self._after_layer, index)
                stack.callback(layer.register_forward_hook(hook).remove)
            yield

    def take(self, prefill: Prefill, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The text model's arguments without its features, which the prefill keeps."""
        # a prompt without pictures
        if kwargs.get("deepstack_visual_embeds") is None:
            return kwargs
        prefill.deepstack = Added(
            kwargs["visual_pos_masks"], list(kwargs["deepstack_visual_embeds"])
        )
        return {**kwargs, "visual_pos_masks": None, "deepstack_visual_embeds": None}

    def _after_layer(
        self, index: int, module: nn.Module, args: Any, hidden: Tensor
    ) -> Tensor | None:
        prefill = self._reading.prefill
        if prefill is None or prefill.deepstack is None:
            return None
        visual, part = prefill.deepstack.visual.to(hidden.device), prefill.current
        rank = (visual.flatten().cumsum(0) - 1).view_as(visual)
        if part is not None:
            origin, valid = part.origin.to(hidden.device), part.valid.to(hidden.device)
            visual, rank = visual.gather(1, origin) & valid, rank.gather(1, origin)
        # a layer's output may be recorded elsewhere, or needed by autograd
        hidden = hidden.clone()
        features = prefill.deepstack.features[index].to(hidden)
        hidden[visual] = hidden[visual] + features[rank[visual]]
        return hidden
