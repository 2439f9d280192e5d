"""Clocks, memory, arithmetic: what a pruned pass costs."""

from __future__ import annotations

from unibench.cost.clock import Clock as Clock
from unibench.cost.clock import Mark as Mark
