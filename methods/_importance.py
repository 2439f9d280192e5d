"""Methods that take the importance of a token from a source that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Stage, StageContext
from unibench.facts import ModelFacts
from unibench.methods import _selector
from unibench.ops import soft_top_k
from unibench.pruning import Family

Source = Literal["saliency", "visionselector", "l2norm", "random"]
Transform = Literal["raw", "difftopk"]
FOLLOWS = {"follows": "model.selector"}  # a configuration takes the path from the model
SOFT_SHARE = 0.2  # AngelSlim's DiffTopK keeps to the ratio of training


class ByImportance(Method):
    """Base of the methods with a pluggable importance; they declare the fields, :meth:`weights`
    reads them.
    """

    importance: Source
    selector_path: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.importance == "visionselector":
            _selector.check(
                self.selector_path, f"{type(self).__name__} with importance=visionselector"
            )

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        if self.importance != "visionselector" or self.selector_path is None:
            return None
        return _selector.unfit(self.selector_path, model.width)

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(0, self.select, Needs(saliency=self.importance == "saliency")),)

    def weights(self, ctx: StageContext, transform: Transform = "raw") -> Tensor:
        """Raw importance of each visual token, ``[N]``, or its DiffTopK image."""
        raw = self._raw(ctx)
        return soft_top_k(raw, SOFT_SHARE * len(raw)) if transform == "difftopk" else raw

    def _raw(self, ctx: StageContext) -> Tensor:
        features = ctx.visual_hidden
        if self.importance == "visionselector":
            assert self.selector_path is not None
            return _selector.load(self.selector_path, features.shape[1]).scores(features)
        # rows of another importance must not pass for those of the paper's selector
        ctx.note(f"importance={self.importance}, not a trained selector")
        if self.importance == "saliency":
            return ctx.saliency()
        if self.importance == "l2norm":
            norm: Tensor = features.norm(dim=-1)
            return norm
        # drawn on the CPU: a GPU's generator gives other numbers from the same seed
        return torch.rand(len(features), generator=ctx.generator()).to(features.device)
