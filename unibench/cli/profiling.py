"""``profile``: cost on fixed inputs."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from unibench.errors import UsageError
from unibench.profile import parse


def profile(words: Sequence[str]) -> int:
    """``profile model=M method=X,Y ratio=R,S [image=1920x1080] [text_tokens=64] [new_tokens=32]
    [batch=1,8] ...``.
    """
    if flags := [word for word in words if word.startswith("-")]:
        raise UsageError(
            f"unknown option {flags[0]}; profile takes key=value, comma lists are grids"
        )
    request, cells = parse(words)
    measure, table = (
        importlib.import_module(f"unibench.profile.{name}") for name in ("measure", "table")
    )  # they load torch
    out = Path(cells[0].out, "profile")
    command = " ".join(["python -m unibench profile", *words])
    for number, found in enumerate(
        measure.profile(request, cells, lambda line: print(line, file=sys.stderr))
    ):
        text = table.markdown(request, found, command)
        print(text)
        out.mkdir(parents=True, exist_ok=True)
        first = found.rows[0]
        name = (
            f"{first['model']}_{request.protocol}_{first['image']}_batch{first['batch']}_{number}"
        )
        (out / f"{name}.md").write_text(text, encoding="utf-8")
        (out / f"{name}.json").write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
        print(f"{out / name}.md and .json\n")
    return 0
