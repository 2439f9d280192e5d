"""Importance that flows along a similarity graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unibench import Method, StageContext
from unibench.annotations import Cosine, Natural, Positive
from unibench.ops import cosine, product


@dataclass(frozen=True)
class GPrune(Method):
    """Keeps the tokens that gather most importance when it flows between similar tokens.

    Feature norms start the flow; it runs a few steps over a graph of cosine neighbours and is
    divided by the degree, so that both centres of clusters and outliers stay.

    Paper: G-Prune, AAAI 2025, arXiv 2501.02268.
    Code: jytmelon/G-Prune@762c6377 LLaVA-NeXT/llava/model/llava_arch.py;
        TianfanPeng/VLMUniPruneBench@f93768fc methods/GPrune_PreLLM.py.
    Cost: O(N^2 D + iterations N^2), N x N floats.
    Deviations: float32 (fp16 loses edges); vector times matrix ``iterations`` times instead of a
        matrix power; one pool per context, where LLaVA-NeXT keeps two and all newline tokens (on
        InternVL the official code has budget.scope=first_tile and positions=compact); ties by lower
        index; original positions.

    Attributes:
        similarity: cosine from which two tokens are neighbours.
        temperature: of the softmax over a token's neighbours.
        iterations: steps of the flow.
    """

    similarity: Cosine = 0.5
    temperature: Positive = 0.03
    iterations: Natural = 5
    category = "ViT only"
    aim = "hybrid"

    def score(self, ctx: StageContext) -> Tensor:
        features = ctx.visual_hidden
        likeness = cosine(features)
        edge = likeness >= self.similarity
        edge.fill_diagonal_(True)  # also where a row is zero
        flow = (likeness / self.temperature).masked_fill(~edge, -torch.inf).softmax(-1)
        mass = features.norm(dim=-1)
        for _ in range(self.iterations):
            mass = product(mass, flow)
        score: Tensor = mass / (flow > 0).sum(-1)
        return score
