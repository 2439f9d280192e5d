"""The pooling head that a SigLIP tower was trained with, and that LLaVA checkpoints leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import SiglipVisionModel

from unibench.errors import UsageError
from unibench.models._checkpoint import WRONG_FILES, first_line, load_whole


class SiglipPooling:
    """A probe's attention over all patches of a tile, and what it makes of the tile.

    Args:
        tower: a SigLIP vision tower, of which only the last norm and the head are used.
    """

    def __init__(self, tower: Any) -> None:
        whole = getattr(tower, "vision_model", tower)  # a wrapper before transformers 5.20
        self.norm, self.head = whole.post_layernorm, whole.head

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Tower states ``[tiles, patches, C]`` as ``[tiles, C]``, and the probe's attention
        ``[tiles, patches]``, mean over heads; float32.
        """
        probe = self.head.probe
        states = self.norm(hidden.to(probe.device, probe.dtype))
        # the steps of transformers' head one by one, which itself drops the weights
        attended, weights = self.head.attention(probe.expand(len(states), -1, -1), states, states)
        pooled: Tensor = attended + self.head.mlp(self.head.layernorm(attended))
        return pooled[:, 0].float().to(hidden.device), weights[:, 0].float().to(hidden.device)


def open_pooling(source: str, device: torch.device, options: Mapping[str, Any]) -> SiglipPooling:
    """Load the pooling head of a SigLIP checkpoint.

    Args:
        source: folder or hub id.
        device: of the head.
        options: for ``from_pretrained``.

    Raises:
        UsageError: the checkpoint cannot be had.
    """
    try:
        tower: Any = load_whole(SiglipVisionModel, source, source, dtype=torch.float32, **options)
    except WRONG_FILES as error:
        raise UsageError(
            f"the pooling head of {source} cannot be loaded ({first_line(error)}); give"
            " the folder or hub id of the SigLIP that the tower comes from, or leave it out for"
            " methods that have a substitute for it"
        ) from None
    return SiglipPooling(tower.eval().requires_grad_(False).to(device))
