"""Where the package keeps its parts, and where it may remember things between commands."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).parent
LINKED = {
    **{name: name for name in ("methods", "models", "tasks", "configs")},
    "published": "results/published",
}
"""Folders of the package that are links in a checkout, and where they lead from its top."""


def part(relative: str) -> Path:
    """A file or folder of the package, for example ``methods`` or ``configs/task``.

    Five folders are symbolic links inside the package. A checkout whose tool made none (some zip
    tools, Windows) has files there that say where the links led, and the folders beside the
    package.
    """
    top, *rest = Path(relative).parts
    if top in LINKED and not (PACKAGE / top).is_dir():
        return PACKAGE.parent.joinpath(LINKED[top], *rest)
    return PACKAGE / relative


def expanded(path: str) -> Path:
    """A path with ``~`` as the user's home; unlike :meth:`pathlib.Path.expanduser`, one that names
    a user who is not there, as a stored path may, stays as it is, and leads nowhere.
    """
    return Path(os.path.expanduser(path))


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/unibench``, else ``~/.cache/unibench``; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return Path(home).expanduser() / "unibench"
