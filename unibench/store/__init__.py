"""Results on disk: one folder per cell, samples appended as they are answered."""

from __future__ import annotations

from unibench.store.folder import CellFolder as CellFolder
from unibench.store.folder import DamagedError as DamagedError
from unibench.store.folder import repair as repair
