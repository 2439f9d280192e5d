"""Digests of code that were shown to give the same numbers as earlier ones.

``lineage.yaml`` is part of a release. An entry names a digest of code and the earlier one that
stands for it in keys, so that an upgrade continues the cells of a store and does not begin them
anew. ``python -m tools.lineage COMMIT`` adds entries once the golden and engine tests have passed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("lineage.yaml")


def canonical(digest: str) -> str:
    """The earliest digest that gives the same numbers; the digest itself where none is known."""
    return _earlier().get(digest, digest)


@cache
def _earlier() -> dict[str, str]:
    stored = yaml.safe_load(FILE.read_text(encoding="utf-8")) or {}
    return {str(later): str(entry["is"]) for later, entry in stored.items()}
