"""Digests that were shown to give the same numbers stand for each other, and no others do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tools.lineage import differing, digests, record
from unibench import identity, lineage
from unibench.compose import compose_cells
from unibench.identity import cell_of

EARLIER = {"engine": ["e1", "e0"], "method fastv": ["f1", "f1"], "method gone": ["g1", "g1"]}
HERE = {"engine": ["e2", "e2"], "method fastv": ["f1", "f1"], "method new": ["n1", "n1"]}


def test_an_earlier_digest_stands_for_a_later_one_in_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (config,) = compose_cells(["model=tiny_qwen2_5_vl"], sweep=False)
    now = cell_of(config)
    engine = now.identity["code"]["engine"]
    monkeypatch.setattr(lineage, "_earlier", lambda: {engine: "first"})
    then = cell_of(config)
    assert then.identity["code"] == {**now.identity["code"], "engine": "first"}
    assert then.key != now.key and lineage.canonical("unknown") == "unknown"


def test_what_differs_is_recorded_under_the_first_digest(tmp_path: Path) -> None:
    file = tmp_path / "lineage.yaml"
    file.write_text("# words\nx0: {is: y0}\n")
    assert [*record(file, EARLIER, HERE, "abc")] == ["e2"]
    assert file.read_text().startswith("# words\n")
    stored = yaml.safe_load(file.read_text())
    assert stored["x0"] == {"is": "y0"}
    assert stored["e2"]["is"] == "e0" and stored["e2"]["since"] == "abc"
    again = {**HERE, "engine": ["e2", "e0"]}
    assert not differing(EARLIER, again)


def test_the_file_of_the_package_can_be_read_and_leads_to_ends() -> None:
    entries = lineage._earlier()
    assert not {*entries.values()} & {*entries}


def test_the_command_knows_every_part_that_is_in_a_key() -> None:
    told = digests()
    (config,) = compose_cells(["model=tiny_qwen2_5_vl", "method=fastv"], sweep=False)
    code = cell_of(config).identity["code"]
    names = {
        "engine": "engine",
        "method": "method fastv",
        "task": "task synthvqa",
        "family": "family qwen2_5_vl",
    }
    assert {part: told[name][1] for part, name in names.items()} == code
    assert all(f"harness {name}" in told for name in identity.HARNESSES)
