"""A board of two made-up certificates, one of them with an older version and hostile words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.kit._certificates import certified
from unibench.board import Site, build
from unibench.kit import certificate as parts

EVIL = "<script>document.title='run'</script><img src=x onerror=alert(1)>"


def board(place: Path) -> Site:
    """Certificates below ``place/certificates`` and their site in ``place/site``."""
    folder = place / "certificates"
    honest = certified(folder / "first" / "2026-01-01")
    older = shutil.copytree(honest, folder / "first" / "2025-01-01")
    _edit(older, lambda whole: whole.update(made="2025-01-01T00:00:00+0000"))
    _edit(honest, lambda whole: whole["method"].update(summary=EVIL))
    broken = shutil.copytree(honest, folder / "broken")
    _edit(broken, lambda whole: whole["results"][0].update(score_100=99.9))
    return build(folder, place / "site")


def _edit(folder: Path, edit: object) -> None:
    whole = json.loads((folder / parts.CERTIFICATE).read_text())
    edit(whole)  # type: ignore[operator]
    (folder / parts.CERTIFICATE).write_text(parts.text_of(whole))
    parts.seal(folder)
