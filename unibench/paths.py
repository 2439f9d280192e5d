"""Where the package keeps its parts, and where it may remember things between commands."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).parent


def part(relative: str) -> Path:
    """A file or folder of the package, for example ``methods`` or ``configs/task``.

    ``methods``, ``models``, ``tasks`` and ``configs`` are symbolic links inside the package. A
    checkout whose tool made none (some zip tools, Windows) has the folders beside it.
    """
    inside = PACKAGE / relative
    return inside if inside.exists() else PACKAGE.parent / relative


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/unibench``, else ``~/.cache/unibench``; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return Path(home).expanduser() / "unibench"
