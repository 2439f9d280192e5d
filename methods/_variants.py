"""Names that several methods give to a form of theirs."""

from __future__ import annotations

from typing import Literal

# the deviations that a docstring names, or the official code with its peculiarities
Reproduction = Literal["default", "official_bug"]
