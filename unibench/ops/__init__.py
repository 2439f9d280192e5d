"""Pure tensor functions: no models, no methods, no state."""

from __future__ import annotations

from unibench.ops.greedy import max_min as max_min
from unibench.ops.similarity import cosine_distance as cosine_distance
from unibench.ops.similarity import unit as unit
from unibench.ops.topk import top_k as top_k
