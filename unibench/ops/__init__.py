"""Pure tensor functions: no models, no methods, no state."""

from __future__ import annotations

from unibench.ops.closest import Closest as Closest
from unibench.ops.components import components as components
from unibench.ops.coverage import coverage as coverage
from unibench.ops.greedy import determinantal as determinantal
from unibench.ops.greedy import farthest as farthest
from unibench.ops.greedy import greedy as greedy
from unibench.ops.greedy import max_min as max_min
from unibench.ops.greedy import mmr as mmr
from unibench.ops.greedy import quality_determinantal as quality_determinantal
from unibench.ops.greedy import rep_max as rep_max
from unibench.ops.independent import independent as independent
from unibench.ops.information import mutual_information as mutual_information
from unibench.ops.merging import Matching as Matching
from unibench.ops.merging import bipartite as bipartite
from unibench.ops.merging import grouped_sum as grouped_sum
from unibench.ops.merging import into_rows as into_rows
from unibench.ops.merging import mean_weights as mean_weights
from unibench.ops.merging import membership as membership
from unibench.ops.merging import nearest_weights as nearest_weights
from unibench.ops.merging import owned as owned
from unibench.ops.merging import pairs as pairs
from unibench.ops.merging import proportional_attention as proportional_attention
from unibench.ops.outliers import outliers as outliers
from unibench.ops.pairs import cosine_pairs as cosine_pairs
from unibench.ops.shapes import coarser_grid as coarser_grid
from unibench.ops.sharing import cells as cells
from unibench.ops.sharing import shares as shares
from unibench.ops.sharing import spaced as spaced
from unibench.ops.similarity import at_least_float32 as at_least_float32
from unibench.ops.similarity import cosine as cosine
from unibench.ops.similarity import euclidean as euclidean
from unibench.ops.similarity import min_max as min_max
from unibench.ops.similarity import unit as unit
from unibench.ops.topk import complement as complement
from unibench.ops.topk import places_within as places_within
from unibench.ops.topk import ranking as ranking
from unibench.ops.topk import ranks as ranks
from unibench.ops.topk import soft_top_k as soft_top_k
from unibench.ops.topk import top_k as top_k
from unibench.ops.work import Work as Work
from unibench.ops.work import counted as counted
from unibench.ops.work import did as did
from unibench.ops.work import product as product
