"""The certificates of the repository hold what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from unibench.kit.verifying import verify

PLACE = Path(__file__).resolve().parents[2] / "results" / "certificates"
FOLDERS = sorted(file.parent for file in PLACE.rglob("certificate.json"))


def test_there_are_some() -> None:
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_a_committed_certificate_holds_what_it_says(folder: Path) -> None:
    assert not verify(folder).problems
