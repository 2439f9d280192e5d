"""Cells of the previous schema: those that lie in the repository's results."""

from __future__ import annotations

import tarfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def archived(name: str, to: Path, count: int) -> list[Path]:
    """The folders of some cells of ``results/<name>/cells.tar.gz``, unpacked."""
    with tarfile.open(REPOSITORY / "results" / name / "cells.tar.gz") as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        rows = [member.name for member in members if member.name.endswith("/metrics.json")]
        kept = {Path(row).parent for row in rows[:: max(1, len(rows) // count)]}
        wanted = [member for member in members if Path(member.name).parent in kept]
        archive.extractall(to, members=wanted, filter="data")
    return sorted(to / folder for folder in kept)
