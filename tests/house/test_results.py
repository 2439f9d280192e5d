"""The pages of results/ are measured again by the commands that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import results
from unibench.cli.main import EVERY

EXPERIMENTS = results.ROOT / "configs" / "experiment"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a page about a toy, and one about nothing."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    (tmp_path / "results" / "toys").mkdir(parents=True)
    (tmp_path / "results" / "toys" / "README.md").write_text(
        "# Of a toy\n\nRun\n\n"
        "    python -m platform > results/toys/table.md     # where it ran\n"
        "    python -m platform \\\n        --terse > results/toys/short.md\n"
        "    python -m nothing_of_the_name\n"
        "    python -m platform > results/toys/never.md\n"
    )
    (tmp_path / "results" / "other.md").write_text("# Other\n\n    python -m platform\n")
    return tmp_path


def test_the_commands_of_a_page_are_run_in_order_until_one_fails(
    house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert results.main([]) == 1
    made = sorted(file.name for file in (house / "results" / "toys").iterdir())
    assert made == ["README.md", "short.md", "table.md"]
    said = capfd.readouterr()
    assert "not measured: toys" in said.err and "exit 1 after" in said.out
    assert "other" not in said.out, "no other checkpoint changes it"


def test_a_page_is_run_by_its_name_and_a_wrong_one_is_refused(
    house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert results.main(["other"]) == 0
    with pytest.raises(SystemExit) as refused:
        results.main(["others"])
    assert refused.value.code == 2 and "there are other, toys" in capfd.readouterr().err


@pytest.mark.parametrize("name", results.pages())
def test_what_a_page_names_is_there(name: str) -> None:
    for line in results.commands(results.pages()[name]):
        if (verb := re.search(r"-m unibench ([a-z][a-z-]*)(?: |$)", line)) is not None:
            assert verb[1] in EVERY, line
        for experiment in re.findall(r"experiment=(\w+)", line):
            assert (EXPERIMENTS / f"{experiment}.yaml").is_file(), line
        for made in re.findall(r"> (\S+)", line):
            assert (results.ROOT / made).is_file(), line
