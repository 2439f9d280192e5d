"""What the papers ran, with the certainty of each entry: ``results/published/settings.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import yaml

from unibench.errors import UsageError
from unibench.report.published import FOLDER

Certainty = Literal["paper", "code", "digits", "inferred", "unknown"]
SAID: dict[Certainty, str] = {
    "code": "read in code that need not have made the table",
    "digits": "read from the printed digits",
    "inferred": "inferred",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Setting:
    """A setting of some tables of a paper.

    Attributes:
        tables: numbers of the tables.
        setting: its name.
        value: what the paper ran.
        certainty: how that is known.
        source: where it stands.
        here: what the experiment of the table does.
        keys: of the experiment, which hold the value.
    """

    tables: tuple[int, ...]
    setting: str
    value: str
    certainty: Certainty
    source: str
    here: str
    keys: tuple[str, ...] = ()


@cache
def settings(folder: Path = FOLDER) -> dict[str, tuple[Setting, ...]]:
    """By paper; none where a folder of tables has no such file.

    Raises:
        UsageError: an entry has a certainty that there is not.
    """
    file = folder / "settings.yaml"
    if not file.is_file():
        return {}
    found = {}
    for paper, entries in yaml.safe_load(file.read_text(encoding="utf-8")).items():
        found[paper] = tuple(
            Setting(
                **{
                    **entry,
                    "tables": tuple(entry["tables"]),
                    "keys": tuple(entry.get("keys", ())),
                }
            )
            for entry in entries
        )
        for one in found[paper]:
            if one.certainty not in get_args(Certainty):
                raise UsageError(
                    f"{file}: {paper}, {one.setting}: certainty {one.certainty!r}; there are"
                    f" {', '.join(get_args(Certainty))}"
                )
    return found


def settings_of(name: str, folder: Path = FOLDER) -> list[Setting]:
    """Of a table, by its name (``idpruner_table1``)."""
    paper, _, number = name.partition("_table")
    return [one for one in settings(folder).get(paper, ()) if number in map(str, one.tables)]


def unstated(name: str, folder: Path = FOLDER) -> list[str]:
    """Remarks below a table: the settings that the paper does not state, by how they are known."""
    own = settings_of(name, folder)
    remarks = []
    for certainty, said in SAID.items():
        named = [f"{one.setting} ({one.value})" for one in own if one.certainty == certainty]
        if named:
            remarks.append(f"not stated by the paper, {said}: {'; '.join(named)}")
    return remarks
