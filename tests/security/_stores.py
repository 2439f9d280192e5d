"""Stores whose strings are attacks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.stats._cells import ENVIRONMENT
from tests.support.records import record
from unibench.compose import compose_cells
from unibench.identity import Cell, cell_of, vanilla_of
from unibench.inference.record import Record
from unibench.inference.row import row_of, stored_row
from unibench.pruning.record import packed
from unibench.store import CellFolder, manifest
from unibench.store.lines import line_of
from unibench.tasks.synthvqa import SynthVQA

NAMES = ("name", "kind", "method", "id", "family", "metric", "budget", "budget_mode", "setting")
WIDER = (*NAMES, "model", "task", "variant", "ability", "layout", "last", "weights", "target_of")


SCORES = {
    "vanilla": (1, 1, 0, 0),
    "divprune": (1, 0, 1, 0),
    "fastv": (0, 1, 1, 1),
}


def honest(place: Path, methods: Collection[str] = tuple(SCORES)) -> Path:
    """A store of cells with samples that differ and that can be drawn; answers, scores and rows
    belong together.
    """
    out, task = place / "out", SynthVQA()
    for method in methods:
        budget = [] if method == "vanilla" else ["ratio=0.75"]
        words = ["model=tiny_qwen2_5_vl", f"method={method}", "task.limit=4", f"out={out}"]
        cell = cell_of(compose_cells([*words, *budget], sweep=False)[0])
        mask = torch.arange(4) >= (0 if method == "vanilla" else 3)
        records = []
        for number, (asked, right) in enumerate(zip(task.samples(4), SCORES[method], strict=True)):
            answer = asked.answers[0] if right else "something else"
            made_up = record(
                id=asked.id,
                index=number,
                ability=asked.ability,
                answer=answer,
                score=task.score(asked, answer),
                last=packed(mask),
                layout=((4, ((1, 2, 2, "", False),)),),
                seen=((0.0, 0.0, 1.0, 1.0),),
            )
            records.append(made_up)
        finish(cell, records)
    return out


def finish(cell: Cell, records: Sequence[Record]) -> None:
    """Write a finished cell, as a run does."""
    folder = CellFolder(cell)
    with folder.appending(ENVIRONMENT):
        for answered in records:
            folder.append(answered.as_json())
    folder.merge()
    vanilla = None if cell.method == "vanilla" else stored_row(vanilla_of(cell))
    folder.finish(row_of(cell, records, [ENVIRONMENT], vanilla, "accuracy").as_json())


def attacks(place: Path) -> list[str]:
    """Strings that act where somebody imports, calls, runs, opens or interprets them.

    Each names the folder ``place``: of modules that leave a marker when they are imported, called
    or run.
    """
    marker = place / "MARKER"
    return [
        "innocent_looking:make",
        f"{place}/innocent_looking.py:Make",
        f"{place}/innocent_looking.py",
        "innocent_looking",
        "os:system",
        f"$(touch {marker})",
        f"`touch {marker}`;touch {marker}",
        f"__import__('pathlib').Path('{marker}').touch()",
        f"!!python/object/apply:os.system ['touch {marker}']",
        f"{{{{ cycler.__init__.__globals__.os.popen('touch {marker}') }}}}",
        f"\\write18{{touch {marker}}}\\input{{{marker}}}",
        f"|touch {marker}",
        "${oc.env:HOME}",
        "../../../../../../etc/passwd",
        "/dev/zero",
        "file:///etc/passwd",
        "http://127.0.0.1:9/x",
        "[/red][bold]:skull:",
        "\x1b]0;title\x07\x1b[31m\x9b2J",
        "\u202egnp.exe",
        "=cmd|'/C calc'!A0",
        "<script>alert(1)</script>",
        "two\nlines\ttab",
        "\U0001f600 \u0645\u0631\u062d\u0628\u0627 $x_$ `a` &lt;",
    ]


def lure(place: Path) -> Path:
    """A module that leaves a marker when anything imports or calls it; returns the marker."""
    place.mkdir()
    marker = place / "MARKER"
    note = f"open({str(marker)!r}, 'a').write"
    (place / "innocent_looking.py").write_text(
        f"{note}('imported ')\ndef make(**options):\n    {note}('called ')\nclass Make:\n    pass\n"
    )
    return marker


def replaced(value: Any, attack: Callable[[], str], keep: Collection[str], name: str = "") -> Any:
    """A value with an attack in place of every string, but of the named fields."""
    if isinstance(value, dict):
        return {key: replaced(entry, attack, keep, key) for key, entry in value.items()}
    if isinstance(value, list):
        return [replaced(entry, attack, keep, name) for entry in value]
    return attack() if isinstance(value, str) and name not in keep else value


def attack(store: Path, texts: list[str], keep: Collection[str], target: str | None = None) -> None:
    """Put attacks into every file of every cell; keys fit their identities afterwards.

    Args:
        store: as :func:`honest` makes it; changed in place.
        texts: the attacks, taken one after the other.
        keep: fields that stay, so that a reader gets as far as it can.
        target: of the stored tasks, whatever else is attacked.
    """
    turn = cycle(texts)

    def following() -> str:
        return next(turn)

    for file in sorted(store.rglob("identity.json")):
        cell = file.parent
        identity = replaced(json.loads(file.read_text()), following, keep)
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        row = replaced(json.loads((cell / "metrics.json").read_text()), following, keep)
        config = replaced(yaml.safe_load((cell / "config.yaml").read_text()), following, keep)
        config["task"]["target"] = target or following()
        config["task"]["data"], config["method"]["source"] = following(), following()
        lines = [
            replaced(entry, following, ("id", *keep)) for entry in entries(cell / "samples.jsonl")
        ]
        texts_of = {
            "identity.json": json.dumps(identity),
            "metrics.json": json.dumps({**row, "key": key}),
            "config.yaml": yaml.safe_dump(config),
            "samples.jsonl": b"".join(map(line_of, lines)).decode(),
            "env.json": json.dumps([{"device": following(), "code": following()}]),
            "status.json": json.dumps({"state": "done", "error": following()}),
            "run.log": following() + "\n",
        }
        for name, content in texts_of.items():
            (cell / name).write_text(content)
        reseal(cell)
        cell.rename(cell.with_name(key))


def entries(file: Path) -> list[dict[str, Any]]:
    """The entries of a file of samples."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def reseal(cell: Path) -> None:
    """Write the manifest of a cell that was edited, as whoever edits on purpose does."""
    manifest.write(cell, {})
