"""``cite``: the BibTeX of what a result stands on."""

from __future__ import annotations

from unibench.cite import bibliography
from unibench.cli.parser import Options


def cite(options: Options) -> int:
    """``cite [method=A,B] [model=M] [task=T] [harness=H]``."""
    given = [getattr(options, key) or "" for key in ("method", "model", "task", "harness")]
    print(bibliography(*([name for name in text.split(",") if name] for text in given)))
    return 0
