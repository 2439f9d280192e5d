"""Norm of the vision tower's keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unibench import Method, Needs, StageContext


@dataclass(frozen=True)
class KNorm(Method):
    """Keeps the tokens whose keys in the last vision block are shortest.

    In language models short keys draw attention; here the rule is carried over to the tower's keys,
    averaged over heads.

    Paper: A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression, EMNLP 2024, arXiv
        2406.11430.
    Code: NVIDIA/kvpress@8bb29b9c presses/knorm_press.py.
    Cost: O(N D).
    Deviations: the official method removes cache entries of the language model, head by head; this
        one chooses visual tokens before it, and no publication did so.
    """

    needs: ClassVar[Needs] = Needs(vit_attention=(-1,))
    category = "ViT only"
    aim = "importance"

    def score(self, ctx: StageContext) -> Tensor:
        assert ctx.vision is not None
        norm: Tensor = ctx.vision.keys(-1).mean(1).norm(dim=-1)
        # in kvpress the longest keys leave the cache first
        return -norm
