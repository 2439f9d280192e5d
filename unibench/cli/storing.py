"""``store``: looking after results on disk."""

from __future__ import annotations

from pathlib import Path

from unibench.errors import UsageError, unknown
from unibench.store import repair


def store(words: list[str]) -> int:
    """``store repair FOLDER``."""
    if not words:
        raise UsageError("store what? python -m unibench store repair <folder of a cell>")
    action, *rest = words
    if action != "repair":
        raise unknown("store action", action, ("repair",))
    if len(rest) != 1:
        raise UsageError("store repair takes one folder: outputs/<model>/<task>/<method>/<key>")
    count = repair(Path(rest[0]))
    print(f"{count} damaged line{'' if count == 1 else 's'} set aside in {rest[0]}/samples.damaged" if count else "nothing is damaged")
    return 0
