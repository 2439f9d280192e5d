"""A static page of results: tables, plots, samples where pruned and vanilla differ, and where every
number comes from.
"""

from __future__ import annotations

from unibench.page.build import build as build
