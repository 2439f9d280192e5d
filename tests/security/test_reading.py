"""No stored text is imported, called, run or opened, whatever a store says.

Where a string that a file holds could reach code, found by a search for import_module, getattr on
modules, yaml, pickle, torch.load, subprocess, eval and opened paths, and what is done there:

===============================  ===============================================================
asked.py                         ``task.target`` of config.yaml was imported; the target of this
                                 installation's own card of that name is, where both are equal
asked.py                         ``task.data`` is hashed within bounds, and read where its hash
                                 is the one in the cell's key
store/cards.py (prune            config.yaml went through ``cell_of``; ``method.source`` is not
``--outdated``)                  opened unless the command names it, unknown targets are not
                                 looked at, folders are hashed within bounds
inference/features.py            ``kind`` of a shared feature file was imported; it is looked up
                                 in a fixed list
frame.py                         index.parquet was believed on its own word; its stamp is keyed
                                 with a secret of the user
store/data.py                    YAML is read as plain values, of bounded size, by libyaml's safe
                                 loader; JSON within bounds; pipes, devices and links are refused
methods/_selector.py             ``torch.load(weights_only=True)`` of a file that the command names
registry/importing.py            imports files and classes that the command names
harness/job.py, cluster/plan.py  job files of this very command, for its own child processes
suites.py, experiment.py,        YAML of this installation, or that the command names
compose.py, report/layout.py
harness/client.py, cli/nodes.py  interpreters and programs that the command or the machine names
===============================  ===============================================================
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.security import _stores as stores
from unibench import registry
from unibench.registry import ROOT

CASES = {
    "every string": ((), None),
    "all but names": (stores.NAMES, None),
    "all that a page leaves": (stores.WIDER, "innocent_looking:make"),
    "a target beside ours": (stores.WIDER, "unibench.tasks.synthvqa:os"),
}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, without the index that tables keep."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in ("index.parquet", "index-scores.parquet", "MARKER")
    }


def walk(place: Path, store: Path) -> dict[str, Any]:
    """What the reading verbs did, in a process of their own that could import the lure."""
    work = place / "work"
    work.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = f"{place / 'lure'}:{ROOT.parent}"
    environment["TMPDIR"] = str(work)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.security._walk", store, work, place / "report.json"],
        env=environment, cwd=ROOT.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    found: dict[str, Any] = json.loads((place / "report.json").read_text())
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the verbs do on an honest store of the same shape."""
    # what a first look at the methods leaves in the cache is no part of what a store brings about:
    # a store is made by this process, which asks the methods and families and remembers them
    place = tmp_path_factory.mktemp("plain")
    registry.methods()
    registry.families()
    found = walk(place, stores.honest(place))
    codes = {name: verb["code"] for name, verb in found["verbs"].items()}
    assert {name for name, code in codes.items() if code != 0} == {"audit"}, found
    return found


OFTEN, *OTHERS = CASES  # each runs every verb once, 10 s


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(OFTEN, marks=pytest.mark.ci_slow), *OTHERS])
def test_every_reading_verb_treats_a_store_as_data(
    case: str, tmp_path: Path, plain: dict[str, Any]
) -> None:
    keep, target = CASES[case]
    store, marker = stores.honest(tmp_path), stores.lure(tmp_path / "lure")
    stores.attack(store, stores.attacks(tmp_path / "lure"), keep, target)
    before = contents(store), contents(tmp_path / "lure")
    found = walk(tmp_path, store)
    assert not marker.exists(), marker.read_text()
    assert (contents(store), contents(tmp_path / "lure")) == before
    # an import may start a process (trio asks ldconfig), in whichever verb comes to it first
    usual = {one for verb in plain["verbs"].values() for one in verb["started"]}
    for name, verb in found["verbs"].items():
        assert verb["code"] in (0, 1, 2), (name, verb["code"])
        assert "Traceback" not in verb["said"], name
        unseen = {sign for sign in verb["said"] if not sign.isprintable()} - {"\n"}
        assert not unseen, (name, unseen)
        assert set(verb["started"]) <= usual, name
    assert set(found["modules"]) <= set(plain["modules"])
    allowed = [tmp_path / "work", store, Path(os.devnull), tmp_path / "report.json"]
    strange = [
        file
        for file in found["written"]
        if not any(Path(file).is_relative_to(place) for place in allowed)
    ]
    assert set(strange) <= set(plain["written"])
