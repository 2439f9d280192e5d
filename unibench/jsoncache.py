"""Small JSON files that spare a command the import of torch; losing one costs seconds, no more."""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from typing import Any

from unibench.paths import cache_folder

UNUSED_DAYS = 30  # a file whose source digest no command asks for any more is removed after these


def read(name: str) -> dict[str, Any]:
    """The content of a cache file; empty if there is none, or none that can be read."""
    try:
        content = json.loads((cache_folder() / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write(name: str, content: dict[str, Any]) -> None:
    """Replace a cache file in one step; a folder that cannot be written is no error."""
    folder = cache_folder()
    unfinished = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".json")
        with open(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        os.replace(unfinished, folder / f"{name}.json")
    except OSError:
        with suppress(OSError):
            os.unlink(unfinished)
        return
    _forget_unused()


def _forget_unused() -> None:
    """Remove files that were last written long ago: every edit of the package starts new ones."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for file in cache_folder().glob("*.json"):
        with suppress(OSError):
            if file.stat().st_mtime < oldest:
                file.unlink()
