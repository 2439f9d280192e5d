"""The papers' settings: each with its source and certainty, and said below the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from unibench.errors import UsageError
from unibench.report.paper import published
from unibench.report.published import FOLDER, names
from unibench.report.settings import settings, settings_of

TABLES = [name for name in names() if "_table" in name]


def test_every_table_has_settings_and_every_setting_a_table() -> None:
    used = [one for name in TABLES for one in settings_of(name)]
    assert all(settings_of(name) for name in TABLES)
    assert {one for own in settings().values() for one in own} == set(used)


def test_every_setting_has_a_source_and_says_what_is_done_here() -> None:
    for own in settings().values():
        for one in own:
            assert one.value
            assert one.here
            assert one.source != "-" or one.certainty == "unknown", one


def test_a_table_says_which_settings_are_inferred() -> None:
    remarks = published("stp_table1").remarks
    (inferred,) = [text for text in remarks if text.startswith("not stated by the paper, inferred")]
    assert "budget (9.8 % of each picture's tokens)" in inferred
    assert "harness" not in " ".join(remarks)


def test_a_certainty_that_there_is_not_is_one_line(tmp_path: Path) -> None:
    text = (
        (FOLDER / "settings.yaml").read_text().replace(", certainty: paper", ", certainty: sure", 1)
    )
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(UsageError, match="certainty 'sure'; there are paper, code, digits"):
        settings(tmp_path)
