"""Intervals and tests."""

from __future__ import annotations

from unibench.stats.interval import Interval as Interval
from unibench.stats.interval import mean_interval as mean_interval
from unibench.stats.seeds import OverSeeds as OverSeeds
from unibench.stats.seeds import over_seeds as over_seeds
