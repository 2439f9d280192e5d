"""Attention outliers and evenly spaced tokens that gather their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Count
from unibench.methods._prumerge import Mode, cls_attention, gathered
from unibench.ops import complement, nearest_weights, outliers, product, ranking


@dataclass(frozen=True)
class PruMergePlus(Method):
    """Keeps the patches that stand out in CLS attention and evenly spaced ones, and adds their
    nearest neighbours to them.

    The spaced patches cover what no outlier marks.

    Paper: LLaVA-PruMerge, ICCV 2025, arXiv 2403.15388 (PruMerge+).
    Code: 42Shawn/LLaVA-PruMerge@097c0411 clip_encoder.py:token_prune_merge_advanced_plus
        (mode=adaptive); EffiVLM-Bench/EffiVLM-Bench@ab3ee183 kv_cache_compression/qwen2vl_model.py
        (mode=fixed).
    Cost: O(K N C), K x N floats, after one row of attention.
    Deviations: rows take the position of their own patch. The fixed-budget code returns rows by
        attention beside sorted indices, so that each row gets the position of another:
        variant=official_bug. As there, surplus spaced patches are cut at the bottom of the picture.
        Without a CLS token: attention received, over all heads; the row says so.

    Attributes:
        mode: fixed, or adaptive: the official number, three to four times the outliers, plus a sum
            of the rest.
        neighbours: patches that each row gathers.
        variant: official or official_bug.
    """

    mode: Mode = "fixed"
    neighbours: Count = 32
    variant: Literal["official", "official_bug"] = "official"
    adaptive: ClassVar[bool] = True
    data_timed: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    category = "ViT only"
    aim = "hybrid"

    @property
    def uses_budget(self) -> bool:
        return self.mode == "fixed"

    def stages(self, depth: int) -> Sequence[Stage]:
        return (
            Stage(
                0,
                self.select,
                Needs(vit_attention=(-1,), features=True),
                exact=self.mode == "fixed",
            ),
        )

    def select(self, ctx: StageContext) -> Selection:
        assert ctx.vision is not None
        attention = cls_attention(ctx)
        features, project = ctx.encoder_features()
        chosen = self._chosen(attention, ctx.keep)
        weights = nearest_weights(
            ctx.vision.keys(-1).flatten(1), chosen, self.neighbours, attention
        )
        rows, rest = product(weights, features), chosen[:0]
        if self.mode == "adaptive" and len(chosen) < len(attention):
            rest = complement(chosen, len(attention))
            chosen, rows = (
                torch.cat([chosen, rest[-1:]]),
                torch.cat([rows, product(attention[rest], features[rest])[None]]),
            )
        if self.variant == "official_bug":
            ctx.note(
                "prumerge_plus official_bug: merged rows stand at the positions of other patches"
            )
            chosen = chosen.sort().values
        return Selection(chosen, project(rows), members=partial(gathered, weights, rest))

    def _chosen(self, attention: Tensor, keep: int) -> Tensor:
        """Outliers by falling attention, then spaced patches."""
        count = len(attention)
        share = int(outliers(attention).sum()) / count
        number = int(count * share)
        if self.mode == "adaptive":
            # the code's step; where a third or more are outliers it is 0 and fails
            step = max(1, int(int(1 / share) / 3)) if share else count
            # count - 1: the official arange stops one short
            spaced, most = torch.arange(0, count - 1, step, device=attention.device), count
        else:
            # EffiVLM's rule: at least one outlier, then spaced patches
            number = min(max(1, number), keep)
            spaced, most = (
                torch.arange(0, count, max(1, count // keep), device=attention.device),
                keep - number,
            )
        marked = ranking(attention)[:number]
        # truncated from the front, so that the bottom of the picture loses samples
        return torch.cat([marked, spaced[~torch.isin(spaced, marked)][:most]])
