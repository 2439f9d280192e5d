"""Intervals and tests."""

from __future__ import annotations

from unibench.stats.agreement import Agreement as Agreement
from unibench.stats.agreement import agreement as agreement
from unibench.stats.interval import Estimate as Estimate
from unibench.stats.interval import Interval as Interval
from unibench.stats.interval import estimate as estimate
from unibench.stats.interval import mean_interval as mean_interval
from unibench.stats.paired import Paired as Paired
from unibench.stats.paired import drop as drop
from unibench.stats.paired import paired as paired
