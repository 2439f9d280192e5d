"""The stored cases, and the map that says which method answers each of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("UNIBENCH_GOLDEN", HERE / "cases"))


@dataclass(frozen=True)
class Entry:
    """How a case is run: one line of ``map.yaml`` with the case's own parameters filled in.

    Attributes:
        method: name of the method.
        adapter: function of ``_adapters.py`` that feeds it.
        options: parameters of the method.
        kept: how ``kept`` is compared: ``equal`` (by the case's tie policy), ``subset`` (the case
            lists only part of a full budget), ``count`` (only the size is binding).
        merged: whether ``merged`` is compared.
        differs: the options reproduce a defect, so the method's default must answer otherwise.
        xfail: reason why the case cannot pass yet.
    """

    method: str
    adapter: str = "select"
    options: dict[str, Any] = field(default_factory=dict)
    kept: str = "equal"
    merged: bool = True
    differs: bool = False
    xfail: str | None = None


@dataclass(frozen=True)
class Case:
    """One stored case.

    Attributes:
        folder: of the method or variant.
        file: its arrays.
        params: keep and hyper-parameters, as stored.
        text: everything else the case says in words.
        tie_policy: ``exact`` or ``up_to_duplicates``.
    """

    folder: str
    file: Path
    params: dict[str, Any]
    text: str
    tie_policy: str

    @property
    def name(self) -> str:
        return f"{self.folder}/{self.file.stem}"

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.file) as stored:
            return {key: stored[key] for key in stored.files}

    @property
    def checked_in_double(self) -> bool:
        """The case says that the official set holds in float64 too, so that rounding may decide for
        float64.
        """
        return "float64" in self.text or "paper-literal" in self.text

    @property
    def keep(self) -> int:
        """The budget: ``keep``, or the number of rows that come out."""
        stated = self.params.get("keep")
        if stated is not None:
            return int(stated)
        return len(self.arrays["kept"])


def cases() -> Iterator[Case]:
    """Every case of every folder, in order."""
    for folder in sorted(path for path in FOLDER.iterdir() if (path / "cases.json").is_file()):
        stored = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
        for case in stored if isinstance(stored, list) else stored["cases"]:
            words = " ".join(str(case.get(key, "")) for key in ("dtype", "notes", "source"))
            ties = str(case.get("tie_policy", "exact")).partition(":")[0]
            yield Case(folder.name, folder / case["file"], case["params"], words, ties)


def mapped() -> dict[str, dict[str, Any]]:
    """The map: folder -> entry."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        (HERE / "map.yaml").read_text(encoding="utf-8")
    )
    return found


def entry_of(case: Case, known: dict[str, dict[str, Any]]) -> Entry | None:
    """The entry of a case, or None if its folder is not in the map.

    ``$name`` in an option stands for a parameter of the case; an option whose parameter the case
    lacks keeps its default. ``rules`` override the entry where their ``when`` holds: an expression
    over the parameters and ``n_kept``, the number of kept indices.
    """
    if case.folder not in known:
        return None
    line = dict(known[case.folder])
    rules = line.pop("rules", [])
    names = {**case.params, "n_kept": len(case.arrays.get("kept", ())), "file": case.file.stem}
    for rule in rules:
        if eval(rule["when"], {"__builtins__": {}}, _Params({**names, "max": max, "round": round})):
            options = {**line.get("options", {}), **rule.get("options", {})}
            line = {
                **line,
                **{key: value for key, value in rule.items() if key != "when"},
                "options": options,
            }
    line["options"] = {
        option: names[value[1:]] if isinstance(value, str) and value.startswith("$") else value
        for option, value in line.get("options", {}).items()
        if not (isinstance(value, str) and value.startswith("$"))
        or names.get(value[1:]) is not None
    }
    return Entry(**line)


class _Params(dict[str, Any]):
    """A parameter that a case does not state is None."""

    def __missing__(self, key: str) -> None:
        return None
