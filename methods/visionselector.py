"""A trained importance scorer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from unibench import StageContext
from unibench.methods._importance import FOLLOWS, ByImportance, Source


@dataclass(frozen=True)
class VisionSelector(ByImportance):
    """Keeps the tokens that a small trained scorer ranks highest.

    The scorer is one attention head without softmax over the projected features: a token is
    important if its query agrees with the mean key.

    Paper: VisionSelector, arXiv 2510.16598.
    Code: JulietChoo/VisionSelector@800a70f6 qwen-evaluation/token_compression/selector_scorer.py.
    Weights: AngelSlim/Qwen2.5-VL-7B-Instruct-Selector and -3B-, or the VisionSelector checkpoints
        of JulietChoo, on the Hugging Face hub; nothing is downloaded. The four tensors are read,
        strictly; code beside them is not run.
    Cost: O(N D + D h) for a scorer of width h.
    Deviations: the mean over keys is taken before the products (equal up to rounding, no N x N
        matrix); float32; raw scores are ranked, as in the official code (AngelSlim ranks DiffTopK
        values).

    Attributes:
        selector_path: a ``.safetensors`` or ``.bin`` file, or a folder with one; ``random:<seed>``
            for tests.
    """

    selector_path: str | None = field(default=None, metadata=FOLLOWS)
    importance: ClassVar[Source] = "visionselector"  # type: ignore[misc]
    category = "ViT only"
    aim = "importance"

    def score(self, ctx: StageContext) -> Tensor:
        return self.weights(ctx)
